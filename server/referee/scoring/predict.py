"""Predicted classes of any number of inputs, in batches, the same for every batch size.

Scoring computes in float32: no autocast, no TensorFloat-32, evaluation mode. A batched pass may
still differ in the last digits from one of another size (kernels are picked by shape), which
turns a prediction where two classes are as good as tied. Such rows are decided by a pass of their
own, whose shape never changes.

Logits that are not all finite answer nothing: the class is `NO_CLASS`, a miss for every label and
for every target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from learning.answers import decided, sound_rows
from learning.pool import Ints
from learning.training.job import Trained
from server.referee.scoring.rows import ScoredRows

if TYPE_CHECKING:
    from torch import Tensor

Classes = NDArray[np.int16]

# Two classes are tied where their logits are nearer than this, absolutely or by the size of the
# largest logit: far above float32's rounding between batch sizes, and met by few rows.
TIED = 1e-3
TIED_RELATIVE = 1e-4


class LogMeanSoftmax(nn.Module):
    """Several models as one: the logarithm of their mean softmax, which is a vector of logits."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """Refer to the models; none is copied."""
        super().__init__()
        self.members = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Return log probabilities, (n, classes), for inputs (n, C, H, W).

        They are NaN where a member's logits are not all finite: nobody can tell the mean.
        """
        logs = torch.stack(
            [sound_rows(member(x).float()).log_softmax(1) for member in self.members]
        )
        return logs.logsumexp(0) - float(np.log(len(self.members)))


def as_one(models: Sequence[Trained]) -> nn.Module:
    """Return the model that answers for `models`: the only one, or their `LogMeanSoftmax`."""
    modules = [model.module for model in models]
    return modules[0] if len(modules) == 1 else LogMeanSoftmax(modules)


@contextmanager
def _precision(settings: object) -> Iterator[None]:
    before = settings.fp32_precision  # type: ignore[attr-defined]
    settings.fp32_precision = "ieee"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        settings.fp32_precision = before  # type: ignore[attr-defined]


@contextmanager
def scoring(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a model into evaluation mode in plain float32; each submodule's mode is restored."""
    modes = [(part, part.training) for part in module.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(_precision(torch.backends.cuda.matmul))
            stack.enter_context(_precision(torch.backends.cudnn.conv))  # type: ignore[attr-defined]
        module.eval()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode


def predicted(
    module: nn.Module, rows: ScoredRows, index: Ints, device: torch.device, batch_size: int
) -> Classes:
    """Return the predicted classes of the rows `index`, int16, aligned with it.

    `NO_CLASS` stands for logits that are not all finite.

    Args:
        module: Gives logits (n, classes).
        rows: Where the inputs are.
        index: Which of them, int64 (k,).
        device: Where the model is.
        batch_size: Rows in one pass; memory grows with it, not with `index`.
    """
    out = np.empty(len(index), dtype=np.int16)
    with scoring(module, device), torch.no_grad():
        for start in range(0, len(index), batch_size):
            chunk = index[start : start + batch_size]
            x = torch.from_numpy(rows.take(chunk)).to(device)
            out[start : start + len(chunk)] = _decide(module, x)
    return out


def _decide(module: nn.Module, x: Tensor) -> Classes:
    logits = module(x).float()
    classes = decided(logits)
    best = logits.topk(min(2, logits.shape[1]), dim=1).values
    limit = (logits.abs().amax(1) * TIED_RELATIVE).clamp(min=TIED)
    for row in (best[:, 0] - best[:, -1] <= limit).nonzero().flatten().tolist():
        classes[row] = decided(module(x[row : row + 1]).float())[0]
    return np.asarray(classes.cpu().numpy(), dtype=np.int16)
