"""Guessing the asking agent from the input: whose rows is it most like (S1 appendix 7.2).

S1 leaves the agent out "most distributionally similar" to the input and names maximum mean
discrepancy (Gretton et al., A Kernel Two-Sample Test, JMLR 2012) among the similarities. Both
similarities here compare features of the shared model, and only with contributed rows *labelled
as the class that the shared model predicts*: a backdoor that works shows there.

    mmd:               -1/2 MMD^2(input, agent's rows), up to a constant
                       = mean_j k(f, z_j) - 1/2 mean_jj' k(z_j, z_j'),  k Gaussian
    nearest_features:  -(distance to the nearest row of the agent)
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from learning.answers import NO_CLASS, decided_rows, sound_rows
from learning.pool import Floats, Pool
from learning.training.job import Trained
from strategies.base import NOBODY, Defender, Guesser

if TYPE_CHECKING:
    from torch import Tensor

CELLS = 2**24  # numbers in one block of distances: 128 MiB in float64
MEDIAN_ROWS = 512
_NONE = -1  # the position of nobody among the agents


class FeatureGuesser(Guesser):
    """Compares features of the input with the agents' rows of the predicted class.

    Where no agent contributed a row of that class, all their rows are compared. Equal similarity
    goes to the agent that comes first. An input whose features, logits or similarities are not
    finite is like nobody.
    """

    def __init__(
        self, pool: Pool, defender: Defender, models: tuple[Trained, ...], agents: tuple[str, ...]
    ) -> None:
        """Take the features of the agents' rows.

        Args:
            pool: Contributed rows.
            defender: Gives features and logits.
            models: Models of everybody; their features are joined and their softmax averaged.
            agents: Contributors to guess from.
        """
        self._defender, self._models, self._agents = defender, models, agents
        index = {name: position for position, name in enumerate(agents)}
        of_block = np.asarray([index.get(name, -1) for name in pool.owners], np.int64)
        mine = of_block[pool.owner_index] >= 0
        self._owner = torch.from_numpy(of_block[pool.owner_index][mine])
        self._label = pool.y[mine]
        self._rows = self._features(pool.x[mine])

    def guess(self, x: Floats) -> list[str]:
        """Return the agent most similar to each input; see `Guesser.guess`."""
        if not len(x):
            return []
        features, classes = self._features(x), self._predicted(x)
        sound = features.isfinite().all(1).cpu().numpy() & (classes != NO_CLASS)
        classes = np.where(sound, classes, NO_CLASS)
        found = np.full(len(x), _NONE, np.int64)
        for label in np.unique(classes[sound]):
            chosen = np.flatnonzero(self._label == label)
            if not len(chosen):
                chosen = np.arange(len(self._label))
            asked = np.flatnonzero(classes == label)
            found[asked] = self._most_similar(features[asked], self._rows[chosen], chosen)
        return [NOBODY if position == _NONE else self._agents[position] for position in found]

    def _most_similar(
        self, asked: Tensor, rows: Tensor, chosen: NDArray[np.intp]
    ) -> NDArray[np.int64]:
        owner = self._owner[torch.from_numpy(chosen)].to(rows.device)
        scores = self._similarity(asked, rows, owner).cpu().numpy()
        scores = np.where(np.isfinite(scores), scores, -np.inf)
        # argmax of NumPy takes the first of equals; torch leaves it open.
        best = scores.argmax(axis=1)
        return np.where(np.isfinite(scores.max(axis=1)), best, _NONE).astype(np.int64)

    @abstractmethod
    def _similarity(self, asked: Tensor, rows: Tensor, owner: Tensor) -> Tensor:
        """Return float64 (asked, agents): similarity to each agent's `rows`, -inf without any."""

    def _features(self, x: Floats) -> Tensor:
        parts = [self._defender.features(model, x) for model in self._models]
        features = torch.from_numpy(np.concatenate(parts, axis=1)).double()
        kind = self._defender.device.type
        return features.to(self._defender.device if kind == "cuda" else "cpu")

    def _predicted(self, x: Floats) -> NDArray[np.int64]:
        logits = [torch.from_numpy(self._defender.logits(model, x)) for model in self._models]
        mean = torch.stack([sound_rows(part.double()).softmax(1) for part in logits]).mean(0)
        return decided_rows(mean.numpy())


class NearestFeatures(FeatureGuesser):
    """The agent that contributed the nearest row."""

    def _similarity(self, asked: Tensor, rows: Tensor, owner: Tensor) -> Tensor:
        agents = len(self._agents)
        out = [
            torch.full(
                (len(part), agents), torch.inf, dtype=part.dtype, device=part.device
            ).scatter_reduce(1, owner.expand(len(part), -1), torch.cdist(part, rows), "amin")
            for part in _blocks(asked, len(rows) + agents)
        ]
        return -torch.cat(out)


class MeanDiscrepancy(FeatureGuesser):
    """The agent whose rows have the least maximum mean discrepancy to the input."""

    def _similarity(self, asked: Tensor, rows: Tensor, owner: Tensor) -> Tensor:
        scale = _median_distance(rows)
        own = self._mean_kernel(rows, rows, owner, scale)
        # The mean over an agent's rows of their mean kernel with the agent's rows.
        spread = _sum_by(own.gather(1, owner[:, None]).T, owner, len(self._agents))
        counts = torch.bincount(owner, minlength=len(self._agents))
        scores = self._mean_kernel(asked, rows, owner, scale) - spread / counts / 2
        return scores.masked_fill(counts == 0, -torch.inf)

    def _mean_kernel(self, asked: Tensor, rows: Tensor, owner: Tensor, scale: float) -> Tensor:
        """Return (asked, agents): the mean Gaussian kernel with each agent's rows."""
        agents = len(self._agents)
        counts = torch.bincount(owner, minlength=agents).clamp(min=1)
        return torch.cat(
            [
                _sum_by(torch.exp(-((torch.cdist(part, rows) / scale) ** 2) / 2), owner, agents)
                / counts
                for part in _blocks(asked, len(rows) + agents)
            ]
        )


SIMILARITIES: dict[str, type[FeatureGuesser]] = {
    "nearest_features": NearestFeatures,
    "mmd": MeanDiscrepancy,
}


def _blocks(asked: Tensor, width: int) -> list[Tensor]:
    """Split the rows so that a block of `width` numbers for each row stays within `CELLS`."""
    size = max(1, CELLS // width)
    return [asked[first : first + size] for first in range(0, len(asked), size)]


def _sum_by(values: Tensor, owner: Tensor, agents: int) -> Tensor:
    """Sum the columns of `values` (m, rows) by owner: (m, agents)."""
    out = torch.zeros((len(values), agents), dtype=values.dtype, device=values.device)
    return out.index_add(1, owner, values)


def _median_distance(rows: Tensor) -> float:
    """Return the median distance between rows (the median heuristic), 1 where it is 0."""
    some = rows[torch.linspace(0, len(rows) - 1, min(len(rows), MEDIAN_ROWS)).long()]
    distances = torch.pdist(some)
    middle = float(distances.median()) if len(distances) else 0.0
    return middle if middle > 0 else 1.0
