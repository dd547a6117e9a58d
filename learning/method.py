"""What every method shares: a frozen parameter object that a scenario names by its `kind`.

A method (a data set, a model, a trigger, an attack, a defence) is one class in one file. Its
fields are its parameters, its `kind` is its name in a scenario. Putting the file into the folder
of its family is all that it takes to be found; installed packages offer more methods through an
entry point of the group ``backfire.<family>``. A scenario can never import anything by itself.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args

from pydantic import Field

from learning.frozen import Frozen

PLUGIN_SWITCH = "BACKFIRE_PLUGINS"


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

    Methods of other installed packages (entry points of the group ``backfire.<last part of a
    package's name>``) join only where the environment variable ``BACKFIRE_PLUGINS`` is 1, since
    importing them runs their code.

    Raises:
        TypeError: If two classes claim one `kind`.
    """
    found: dict[str, type[MethodT]] = {}
    for package in packages:
        for item in [*_own_classes(package), *_plugin_classes(package)]:
            if _is_method(item, family) and found.setdefault(kind_of(item), item) is not item:
                raise TypeError(f"two methods of {package} are called {kind_of(item)!r}")
    return found


def _own_classes(package: str) -> list[Any]:
    root = importlib.import_module(package)
    modules = [
        importlib.import_module(f"{package}.{info.name}")
        for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda info: info.name)
        if info.name != "base" and not info.ispkg
    ]
    return [
        item
        for module in modules
        for item in vars(module).values()
        if getattr(item, "__module__", None) == module.__name__
    ]


def _plugin_classes(package: str) -> list[Any]:
    if os.environ.get(PLUGIN_SWITCH) != "1":
        return []
    group = f"backfire.{package.rsplit('.', 1)[-1]}"
    return [point.load() for point in metadata.entry_points(group=group)]


def _is_method(item: object, family: type[Method]) -> bool:
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
    if len(members) == 1:
        return members[0]
    return Annotated[Union[members], Field(discriminator="kind")]  # noqa: UP007 - a tuple
