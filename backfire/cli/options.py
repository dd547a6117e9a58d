"""Options that several commands have, and the console that their output goes to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from backfire.errors import UsageError
from learning.training.spec import DEVICE
from scenarios.text.quoting import printable, shown

RUNS: Final = Path("runs")

Json = Annotated[bool, typer.Option("--json", help="Print JSON to the standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Plain = Annotated[bool, typer.Option("--plain", help="No colours and no moving bars.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, max=4096, help="Cells played at a time.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="Play on this device: auto, cpu, cuda, cuda:1, mps.")
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="NAME,...",
        help="Spread the cells over these devices, such as cuda:0,cuda:1, or over all GPUs: all.",
    ),
]
SweepOut = Annotated[Path, typer.Option("--out", help="Folder that the sweep is kept in.")]


def device_named(name: str) -> str:
    """Return the value of ``--device``, found to be the name of a device.

    Raises:
        UsageError: If it is none; one line.
    """
    if not re.fullmatch(DEVICE, name):
        hint = " (a GPU is called cuda)" if name.lower() in ("gpu", "gpu:0", "nvidia") else ""
        raise UsageError(
            f"--device: expected auto, cpu, cuda, cuda:1 or mps, got {shown(name)}{hint}"
        )
    return name


def chosen_devices(device: str | None, devices: str | None) -> tuple[str, ...]:
    """Return the devices of ``--device`` and ``--devices``; none where neither is given.

    Raises:
        UsageError: If both are given, or one is not on this machine; one line.
    """
    from backfire.sweeps.devices import devices_of

    if device is not None and devices is not None:
        raise UsageError("expected --device or --devices, got both")
    named = device if devices is None else devices
    if named is None:
        return ()
    try:
        return devices_of(named)
    except (ValueError, RuntimeError) as error:
        raise UsageError(printable(" ".join(str(error).split()), 300)) from None


def open_console(plain: bool, *, error: bool = False) -> Console:
    """Return the console of the standard output, or of the standard error."""
    if plain:
        return Console(stderr=error, no_color=True, force_terminal=False, highlight=False)
    return Console(stderr=error, highlight=False)
