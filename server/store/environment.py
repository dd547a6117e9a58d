"""What a game was played with: versions, device, commit, command."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from learning.models.published import sha256_of

if TYPE_CHECKING:
    from scenarios.scenario import Scenario

PACKAGES = (
    "backfire",
    "flwr",
    "numpy",
    "pydantic",
    "ray",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
)
_HOUSE = Path(__file__).resolve().parents[2]


def environment(device: str, argv: Sequence[str] = (), runtime: str = "local") -> dict[str, Any]:
    """Return the surroundings of a game as JSON values.

    Nothing is read from the environment variables of the process, where secrets live.

    Args:
        device: The torch device that the game trains on.
        argv: The command line.
        runtime: Where the agents are.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "runtime": runtime,
        "device": device,
        "device_name": _device_name(device),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "packages": {
            **{name: version for name in PACKAGES if (version := _version(name))},
            "torch": str(torch.__version__),
        },
        "argv": list(argv),
    }


def files_of(scenario: Scenario) -> dict[str, str]:
    """Return the SHA-256 (hex) of each file that the scenario's model is read from, by its path.

    Raises:
        ValueError: If one cannot be read; one line.
    """
    return {path: sha256_of(path) for path in scenario.model.files()}


def version() -> str:
    """Return the version of Backfire, or "source" where it is not installed."""
    return _version("backfire") or "source"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of a source checkout, with ``-dirty`` where files were changed."""
    git = shutil.which("git")
    # An installed copy may lie inside somebody else's repository; its commit says nothing.
    if git is None or not (_HOUSE / ".git").exists():
        return None
    command = [git, "-C", str(_HOUSE), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
