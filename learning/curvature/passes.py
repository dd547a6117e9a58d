"""How many rows go through a model at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from learning.training.engine.memory import LARGEST_TENSOR, output_sizes

if TYPE_CHECKING:
    from torch import Tensor, nn

# Few enough to need no thought; and more than these save nothing (measured on perceptrons).
_FEW, _CPU_MOST, _GPU_MOST = 64, 2048, 2**14
# The largest output of a layer that a GPU keeps for a pass, in bytes.
_GPU_TENSOR = 2**28


def refuse_unfit(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Refuse what would give other numbers each time, or numbers of other rows.

    Raises:
        ValueError: If the model is in training mode, where dropout draws and BatchNorm mixes rows,
            or if there are not as many labels as rows.
    """
    if module.training:
        raise ValueError("curvature of a model: expected it in evaluation mode: call its eval()")
    if len(x) != len(y):
        raise ValueError(f"rows and labels: expected as many of both, got {len(x)} and {len(y)}")


def pieces(module: nn.Module, x: Tensor, chunk: int | None) -> Iterator[slice]:
    """Yield rows in order, some at a time: `chunk`, or as many as `rows_per_pass` says."""
    most = chunk or rows_per_pass(module, x)
    for first in range(0, len(x), most):
        yield slice(first, first + most)


def rows_per_pass(module: nn.Module, x: Tensor) -> int:
    """Return how many rows to take at once.

    On a CPU no layer's output is larger than what stays in caches and is not handed back to the
    kernel (16 MiB), up to 2048 rows; elsewhere than 256 MiB, up to 16384 rows.
    """
    if len(x) <= _FEW:
        return _FEW
    on_cpu = x.device.type == "cpu"
    each = x.element_size() * max(output_sizes(module, tuple(x.shape[1:])))  # type: ignore[arg-type]
    fitting = (LARGEST_TENSOR if on_cpu else _GPU_TENSOR) // each
    return max(1, min(fitting, _CPU_MOST if on_cpu else _GPU_MOST))
