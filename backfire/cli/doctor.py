"""What this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from backfire.environment import SWITCHES
from learning.families.offers import PLUGIN_SWITCH, offers, switched_on
from learning.families.table import FAMILIES, GROUP, TOOLS
from scenarios.families import faults
from scenarios.library import names
from scenarios.text.quoting import listing

State = Literal["ok", "note", "missing"]

MIN_PYTHON: Final = (3, 11)
FLOWER: Final = ((1, 39), (1, 40))
NEEDED: Final = (
    "flwr",
    "jinja2",
    "numpy",
    "pillow",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "rich",
    "safetensors",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
    "typer",
)
_REINSTALL: Final = "install Backfire again into this environment: pip install -e ."
_GIB: Final = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: ``ok``; ``note`` (something optional is absent); ``missing`` (needed).
        found: What was found.
        remedy: What to do; "" where nothing.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(out: Path) -> list[Check]:
    """Look at this machine.

    Args:
        out: The folder that runs would be written to.
    """
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        _flower,
        _devices,
        _ray,
        _machine,
        lambda: _writable(out),
        _library,
        _plugins,
    )
    return [check for look in looks for check in look()]


def healthy(checks: list[Check]) -> bool:
    """Return whether nothing that is needed is missing."""
    return all(check.state != "missing" for check in checks)


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} ({sys.executable})"
    wanted = ".".join(map(str, MIN_PYTHON))
    fine = sys.version_info >= MIN_PYTHON
    yield Check(
        "python", "ok" if fine else "missing", found, "" if fine else f"use {wanted} or newer"
    )
    yield Check("platform", "ok", platform.platform())


def _packages() -> Iterator[Check]:
    for package in NEEDED:
        version = _version(package)
        if version is None:
            yield Check(package, "missing", "not installed", _REINSTALL)
        else:
            yield Check(package, "ok", version)


def _flower() -> Iterator[Check]:
    version = _version("flwr")
    if version is not None:
        number = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        low, high = FLOWER
        if not low <= number < high:
            yield Check(
                "flwr version",
                "missing",
                version,
                f"install flwr>={low[0]}.{low[1]},<{high[0]}.{high[1]}",
            )
    for name, quiet in SWITCHES.items():
        value = os.environ.get(name, "")
        if value == quiet:
            yield Check(name, "ok", f"{value} (nothing is sent or fetched)")
        else:
            yield Check(name, "note", value or "not set", f"set it to {quiet} to keep quiet")


def _devices() -> Iterator[Check]:
    if _version("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = device.total_memory / _GIB
            yield Check(f"cuda:{index}", "ok", f"{device.name}, {memory:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Check("mps", "ok", "Apple GPU")
    else:
        yield Check("gpu", "note", "none; games are played on the CPU")
    yield Check("torch threads", "ok", str(torch.get_num_threads()))


def _ray() -> Iterator[Check]:
    if importlib.util.find_spec("ray") is not None:
        yield Check("ray", "ok", f"{_version('ray')}; --runtime ray can be used")
    else:
        remedy = "for --runtime ray: pip install -e '.[ray]'"
        yield Check("ray", "note", "not installed; --runtime local can be used", remedy)


def _machine() -> Iterator[Check]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cpu cores", "ok", f"{usable} usable of {os.cpu_count()}")
    memory = _memory()
    if memory is not None:
        yield Check("memory", "ok", f"{memory / _GIB:.1f} GiB")


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _writable(out: Path) -> Iterator[Check]:
    there = next((folder for folder in (out, *out.absolute().parents) if folder.exists()), out)
    try:
        with tempfile.TemporaryFile(dir=there):
            yield Check("run folder", "ok", f"{out} can be written")
    except OSError as error:
        found = f"{out} cannot be written: {error.strerror or error}"
        yield Check("run folder", "missing", found, "choose another with --out")


def _library() -> Iterator[Check]:
    found = names()
    if found:
        yield Check("scenarios", "ok", f"{len(found)} in the library")
    else:
        yield Check("scenarios", "missing", "the library is empty", _REINSTALL)


def _plugins() -> Iterator[Check]:
    """Look at what other packages offer; nothing of theirs is run unless plug-ins are on."""
    on, wrong = switched_on(), faults()
    for offer in offers():
        name = f"plug-in {offer}"
        if offer.family is None:
            groups = listing([GROUP + family for family in (*FAMILIES, *TOOLS)], 40)
            found = f"no family has the group {offer.point.group}"
            yield Check(name, "note", found, f"its package can use one of {groups}")
        elif offer in wrong:
            found = f"broken, left out: {wrong[offer]} (entry point {offer.point.value})"
            yield Check(name, "note", found, f"mend or remove {offer.source}")
        elif not on:
            found = f"installed, switched off (entry point {offer.point.value})"
            yield Check(name, "note", found, f"set {PLUGIN_SWITCH}=1 to use it")
        elif offer.outdated:
            found = f"ready; its group {offer.point.group} has an old name"
            yield Check(name, "note", found, f"its package should call it {GROUP}{offer.family}")
        else:
            yield Check(name, "ok", f"ready (entry point {offer.point.value})")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
