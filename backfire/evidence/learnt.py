"""Whether models have learnt, over seeds: what decides that an attack on them means anything.

In one game `server.referee.findings` decides it, by the interval over test inputs. A sweep has
seeds instead, and its card no counts: here each seed's accuracy itself must be above what counts
as learnt, on the mean and in at least half of the seeds. So neither one lucky seed nor one that
failed decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from backfire.evidence.comparisons import BySeed
from server.referee.learnt import needed_accuracy
from server.referee.registry import class_of

CONSTANT: Final = "constant_accuracy"
# In the attacked game, and without attackers.
ACCURACIES: Final = ("clean_accuracy", "clean_accuracy_attacker_free")
VOID: Final = "void: the model has not learnt"
# Shares that differ by rounding alone are the same.
_EQUAL: Final = 1e-9


class Learning(NamedTuple):
    """Clean accuracy beside that of the best constant answer, over seeds that know both.

    Attributes:
        accuracy: Mean clean accuracy, 0..1.
        constant: Mean accuracy of the best constant answer, 0..1.
        unlearnt: Seeds whose model has not learnt.
        seeds: Seeds in all; at least 1.
    """

    accuracy: float
    constant: float
    unlearnt: int
    seeds: int

    @property
    def needed(self) -> float:
        """The accuracy that counts as learnt if it is exceeded, 0..1."""
        return needed_accuracy(self.constant)

    @property
    def failed(self) -> bool:
        """Whether the models have not learnt: on the mean, or in more than half of the seeds."""
        return not _above(self.accuracy, self.constant) or 2 * self.unlearnt > self.seeds


def learning(accuracy: BySeed, constant: BySeed) -> Learning | None:
    """Return whether models have learnt; None where no seed knows both.

    Args:
        accuracy: Clean accuracy by seed, 0..1.
        constant: Accuracy of the best constant answer by seed, 0..1.
    """
    seeds = sorted(accuracy.keys() & constant.keys())
    if not seeds:
        return None
    return Learning(
        sum(accuracy[seed] for seed in seeds) / len(seeds),
        sum(constant[seed] for seed in seeds) / len(seeds),
        sum(not _above(accuracy[seed], constant[seed]) for seed in seeds),
        len(seeds),
    )


def is_void(accuracies: Iterable[BySeed], constant: BySeed) -> bool:
    """Return whether models have not learnt by one of their accuracies; False where none is known.

    Args:
        accuracies: Of `ACCURACIES`, by seed; those that are known.
        constant: Accuracy of the best constant answer by seed, 0..1.
    """
    told = (learning(accuracy, constant) for accuracy in accuracies)
    return any(one is not None and one.failed for one in told)


def tells_of_attacks(score: str) -> bool:
    """Return whether a score says what a backdoor does, which means nothing on a dead model."""
    known = class_of(score)
    return known is not None and known.tells_of_attacks


def _above(accuracy: float, constant: float) -> bool:
    return accuracy > needed_accuracy(constant) + _EQUAL
