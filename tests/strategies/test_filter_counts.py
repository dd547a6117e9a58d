"""How many rows a filter removes: what its share means by the house's one rule, halves up."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from learning.pool import Block, Pool
from strategies.conformance.filtering import ExactLearner
from strategies.filtering.influence import Influence
from strategies.filtering.inverse_self_paced import InverseSelfPaced
from strategies.filtering.iterative_trimmed_loss import IterativeTrimmedLoss
from strategies.filtering.loss_defence import LossDefence
from strategies.filtering.parts.row_draws import RowDraws
from strategies.filtering.sever import Sever
from strategies.filtering.spectral_signatures import SpectralSignatures
from strategies.filtering.trim import Trim


def halves_up(share, rows):
    return floor(Fraction(str(share)) * rows + Fraction(1, 2))


def of_class(build, counts):
    """A pool with so many rows of each class, all of one agent's."""
    y = np.repeat(np.arange(len(counts)), counts)
    draws = np.random.default_rng(1)
    x = (draws.random((len(y), *build.shape)) * 0.9).astype(np.float32)
    x[np.arange(len(y)), 0, y, y] += np.float32(0.1)
    return Pool((Block("ada", 3, x, y),), build.classes)


def removed_of(pool, verdict):
    return np.bincount(pool.y[np.isin(pool.ids, verdict.removed)], minlength=pool.classes).tolist()


# Of 10, 30 and 6 rows: 1.5, 4.5 and 0.9 at 15 %; 2.5, 7.5 and 1.5 at 25 %; 2.9, 8.7, 1.74 at 29 %.
@pytest.mark.parametrize("share", [0.15, 0.25, 0.29])
@pytest.mark.parametrize("method", ["spectral", "loss", "sever"])
def test_of_each_class_goes_the_share_halves_up(play, build, defender, method, share):
    """Cutting the fraction off, or halves to even, removes others (mutant M08)."""
    rule = {
        "spectral": SpectralSignatures(expected_poison=share, multiplier=1.0),
        "loss": LossDefence(share=share, per="class"),
        "sever": Sever(share=share, per="class", rounds=1),
    }[method]
    pool = of_class(build, [10, 30, 6])
    wanted = [halves_up(share, rows) for rows in (10, 30, 6)]
    assert removed_of(pool, play(rule.inspect(pool, defender))) == wanted
    assert wanted != [int(share * rows) for rows in (10, 30, 6)]


def test_the_multiplier_belongs_to_the_share(play, build, defender):
    """1.5 x 0.1 is 0.15000000000000002 in binary, and 15 % of 10 rows are 1.5: two."""
    pool = of_class(build, [10, 30, 6])
    assert removed_of(pool, play(SpectralSignatures().inspect(pool, defender))) == [2, 5, 1]


@pytest.mark.parametrize("share", [0.05, 0.15, 0.29])
@pytest.mark.parametrize("rows", [10, 30, 50])
def test_of_all_rows_goes_the_share_halves_up(play, build, defender, share, rows):
    pool, kept = of_class(build, [rows - 6, 3, 3]), round(1 - share, 2)
    wanted = halves_up(share, rows)
    for rule in (LossDefence(share=share), Sever(share=share, rounds=1)):
        assert len(play(rule.inspect(pool, defender)).removed) == wanted
    # What is kept is the share here, and its halves go up too.
    trimmed = play(IterativeTrimmedLoss(kept_share=kept, rounds=1).inspect(pool, defender))
    assert len(trimmed.removed) == rows - halves_up(kept, rows)
    play.train = ExactLearner(build.shape, build.classes, 0).train
    linear = play(Trim(expected_poison=share, max_turns=1).inspect(pool, defender))
    assert len(linear.removed) == wanted


@pytest.mark.parametrize(("held", "rows", "wanted"), [(0.5, 5, 3), (0.29, 100, 29), (0.01, 5, 1)])
def test_influence_keeps_the_share_of_the_defenders_rows(build, defender, held, rows, wanted):
    pool = build.pool(rows={"defender": rows, "ada": 12})
    (job,) = next(Influence(held_out=held).inspect(pool, defender))
    assert len(pool) - len(job.pool) == wanted


@pytest.mark.parametrize(("expansion", "wanted"), [(0.05, 5), (0.25, 23), (0.29, 26), (0.01, 2)])
def test_inverse_self_paced_learning_samples_the_share(build, defender, expansion, wanted):
    pool = build.pool(rows={"ada": 90})
    rule = InverseSelfPaced(expansion=expansion, runs=1)
    (job,) = next(rule.components(pool, defender, RowDraws(pool, defender), 0))
    assert len(job.pool) == wanted
    assert rule.scaled(1, 20_000) == 3  # 2.5 epochs


@pytest.mark.parametrize(("subset", "steps"), [(0.1, 5), (0.34, 4), (1 / 3, 5)])
def test_the_chosen_set_falls_from_as_many_sizes_as_there_are(subset, steps):
    """From three times the size, or two where three are more than all; then it settles twice."""
    assert len(InverseSelfPaced(subset=subset).schedule(100, 100)) == steps
