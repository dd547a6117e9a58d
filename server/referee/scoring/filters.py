"""What the filters removed, against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learning.metrics import auroc
from learning.pool import Bools, Ints, Pool
from server.referee.results import FilterScores
from server.referee.scoring.scores import share
from server.referee.sealed import Truth
from strategies.pipeline import Outcome


def filter_scores(
    outcome: Outcome, truth: Mapping[str, Truth], agents: Sequence[str]
) -> tuple[FilterScores, ...]:
    """Return the scores of a defender's filters, in the order of play.

    Each filter is scored on the rows that those before it left. Rows that no agent contributed
    (the defender's, simulated agents') count as clean.

    Args:
        outcome: What the defender ended with in the attacked game.
        truth: By agent.
        agents: Names of the admitted agents, for the counts of each.
    """
    ids, owner, poisoned = _ledger(outcome.pool, truth)
    seen = np.ones(len(ids), dtype=np.bool_)
    scores = []
    for kind, verdict in outcome.verdicts:
        removed = np.isin(ids, verdict.removed) & seen
        suspects = np.isin(verdict.scored_ids, ids[poisoned & seen])
        scores.append(
            FilterScores(
                kind=kind,
                **_counts(removed, poisoned & seen),
                auroc=auroc(verdict.scores, suspects),
                by_agent=_by_agent(removed, poisoned & seen, owner, outcome.pool, agents),
                notes=verdict.notes,
            )
        )
        seen &= ~removed
    return tuple(scores)


def _ledger(pool: Pool, truth: Mapping[str, Truth]) -> tuple[Ints, Ints, Bools]:
    """Return id, position of the owner, and whether it is poisoned, of all rows ever in `pool`."""
    whole = Pool(pool.blocks, pool.classes)
    parts = [
        truth[block.owner].poisoned if block.owner in truth else np.zeros(len(block.y), np.bool_)
        for block in pool.blocks
    ]
    return whole.ids, whole.owner_index, np.concatenate(parts)


def _counts(removed: Bools, poisoned: Bools) -> dict[str, Any]:
    out, bad, hit = int(removed.sum()), int(poisoned.sum()), int((removed & poisoned).sum())
    return {
        "removed": out,
        "poisoned": bad,
        "true_positives": hit,
        "precision": share(hit, out),
        "recall": share(hit, bad),
    }


def _by_agent(
    removed: Bools, poisoned: Bools, owner: Ints, pool: Pool, agents: Sequence[str]
) -> dict[str, tuple[int, int, int]]:
    columns = [
        np.bincount(owner[rows], minlength=len(pool.blocks)).tolist()
        for rows in (removed, poisoned, removed & poisoned)
    ]
    counts = dict(zip(pool.owners, zip(*columns, strict=True), strict=True))
    return {agent: counts[agent] for agent in agents if agent in counts}
