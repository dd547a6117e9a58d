"""What every method shares: a frozen parameter object that a scenario names by its `kind`.

A method (a data set, a model, a trigger, an attack, a defence) is one class in one file. Its
fields are its parameters, its `kind` is its name in a scenario. Putting the file into the folder
of its family is all that it takes to be found; installed packages offer more methods through an
entry point of the group ``backfire.<family>`` (`learning.families.table`). A scenario can never
import anything by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, TypeGuard, TypeVar, Union, get_args

from pydantic import BaseModel, Discriminator, ValidatorFunctionWrapHandler, WrapValidator

from learning.families.offers import Offer, PluginError, offers, switched_on
from learning.families.origins import Record, origin_of
from learning.families.table import family_of
from learning.frozen import Frozen


class Method(Frozen):
    """A named method with frozen, validated parameters.

    Subclasses declare ``kind: Literal["its_name"] = "its_name"`` and their parameters as fields.

    Attributes:
        paper: Where the method comes from (paper, section, equation).
        examples: Fields of small instances, which the family's tests play; by default one with
            all defaults. Empty where a method cannot be played by itself, without a file of its
            owner for instance.
    """

    paper: ClassVar[str] = ""
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({},)

    def misfit(self, shape: tuple[int, int, int]) -> str | None:
        """Return why it cannot be played on inputs of a shape, None where nothing is known of it.

        Scenarios are refused by what is said here before anything is trained.

        Args:
            shape: Of one input, (C, H, W).

        Returns:
            ``expected ..., got ...``, one line.
        """
        return None


# Modules of a family's folder that hold what its methods share, and the check of them all.
_NO_METHODS: Final = ("base", "conformance")

MethodT = TypeVar("MethodT", bound=Method)


def kind_of(method: type[Method]) -> str:
    """Return the name under which a scenario finds `method`.

    Raises:
        TypeError: If the class declares no ``kind: Literal["..."]``.
    """
    field = method.model_fields.get("kind")
    names = get_args(field.annotation) if field is not None else ()
    if len(names) != 1 or not isinstance(names[0], str):
        raise TypeError(f'{method.__qualname__} must declare kind: Literal["name"]')
    return names[0]


def discover(family: type[MethodT], *packages: str) -> dict[str, type[MethodT]]:
    """Find the methods of a family: the classes of the modules of `packages`, by `kind`.

    Plug-ins join only where they are switched on (`learning.families.offers`), since importing
    them runs their code; one that is broken is left out, see `broken`.

    Raises:
        TypeError: If two classes of this house claim one `kind`.
    """
    found = _own_methods(family, packages)
    joined = [plugin for _, plugin in _plugins(family, packages, found)]
    return found | {kind_of(item): item for item in joined if not isinstance(item, str)}


def broken(family: type[Method], *packages: str) -> dict[Offer, str]:
    """Return the plug-ins that `discover` leaves out, and what is wrong with each, in one line."""
    if not switched_on():
        return {}
    found = _own_methods(family, packages)
    return {
        offer: plugin
        for offer, plugin in _plugins(family, packages, found)
        if isinstance(plugin, str)
    }


def plugins_in(value: object) -> list[Record]:
    """Return where the methods in a block come from that are not of this house.

    Args:
        value: A scenario, or any part of it.

    Returns:
        See `learning.families.origins.origin_of`; each once, by name.
    """
    used = {type(method) for method in _methods_in(value)}
    records = [record for method in used if (record := origin_of(method)) is not None]
    return sorted(records, key=lambda record: str(record["method"]))


def _methods_in(value: object) -> Iterator[Method]:
    if isinstance(value, Method):
        yield value
    if isinstance(value, BaseModel):
        inside: Iterable[object] = (getattr(value, name) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        inside = value.values()
    else:
        inside = value if isinstance(value, tuple | list) else ()
    for item in inside:
        yield from _methods_in(item)


def _own_methods(family: type[MethodT], packages: Sequence[str]) -> dict[str, type[MethodT]]:
    found: dict[str, type[MethodT]] = {}
    for package in packages:
        for item in _own_classes(package):
            if _is_method(item, family) and found.setdefault(kind_of(item), item) is not item:
                raise TypeError(f"two methods of {package} are called {kind_of(item)!r}")
    return found


def _plugins(
    family: type[MethodT], packages: Sequence[str], known: Mapping[str, type[MethodT]]
) -> Iterator[tuple[Offer, type[MethodT] | str]]:
    """Yield each plug-in and its class, or what is wrong with it; none if they are switched off."""
    taken = dict(known)
    names = [name for name in map(family_of, packages) if name is not None]
    for offer in [offer for name in names for offer in offers(name)] if switched_on() else ():
        try:
            method = _plugin(offer, family)
            if taken.setdefault(kind_of(method), method) is not method:
                raise PluginError(f"there is another method of the kind {kind_of(method)!r}")
        except PluginError as error:
            yield offer, str(error)
        else:
            yield offer, method


def _plugin(offer: Offer, family: type[MethodT]) -> type[MethodT]:
    """Load a plug-in.

    Raises:
        PluginError: If it cannot be imported, or is no method that a scenario can name.
    """
    item = offer.load()
    if not _is_method(item, family):
        raise PluginError(
            f"expected a public class derived from {family.__name__} that declares its kind, got "
            f"{getattr(item, '__name__', type(item).__name__)}"
        )
    try:
        kind_of(item)
        item.model_json_schema()
    except Exception as error:  # what its fields are is somebody else's code
        raise PluginError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    return item


def _own_classes(package: str) -> list[Any]:
    root = importlib.import_module(package)
    modules = [
        importlib.import_module(f"{package}.{info.name}")
        for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda info: info.name)
        if info.name not in _NO_METHODS and not info.ispkg
    ]
    return [
        item
        for module in modules
        for item in vars(module).values()
        if getattr(item, "__module__", None) == module.__name__
    ]


def _is_method(item: object, family: type[MethodT]) -> TypeGuard[type[MethodT]]:
    return (
        isinstance(item, type)
        and issubclass(item, family)
        and "kind" in item.__annotations__
        and not item.__name__.startswith("_")
    )


def one_of(family: type[Method], *packages: str) -> Any:  # noqa: ANN401 - a type for pydantic
    """Return the union type of a family's methods, told apart by `kind`, for a pydantic field.

    Raises:
        TypeError: If the packages hold no method of the family.
    """
    members = tuple(discover(family, *packages).values())
    if not members:
        raise TypeError(f"expected a {family.__name__} in {' or '.join(packages)}, found none")
    union: Any = members[0]
    if len(members) > 1:
        union = Annotated[Union[members], Discriminator("kind")]  # noqa: UP007 - a tuple
    return Annotated[union, _or_instance_of(_bases(members))]


def _bases(members: Sequence[type[Method]]) -> tuple[type[Method], ...]:
    """Return what the methods of a family derive from, short of `Method` itself."""
    above = {base for member in members for base in member.__mro__[1:]}
    return tuple(base for base in above if issubclass(base, Method) and base is not Method)


def _or_instance_of(bases: tuple[type[Method], ...]) -> WrapValidator:
    """Return a validator that takes a method made in Python as it is, of whatever class."""

    def validated(value: object, then: ValidatorFunctionWrapHandler) -> object:
        return value if isinstance(value, bases) else then(value)

    return WrapValidator(validated)
