"""A defence of my own against a backdoor: drop the rows that lie far from their class.

python examples/my_defence.py
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

import backfire
from learning.pool import Pool
from learning.training.job import Training, TrainingRequests
from strategies.base import Defender, Verdict


class FarFromClass(backfire.Filter):
    """Removes of each class the rows whose features lie farthest from the class's median."""

    kind: Literal["far_from_class"] = "far_from_class"
    share: float = Field(0.1, ge=0, le=1, description="Share of each class to remove.")

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows by a model that is trained on all of them."""
        (model,) = yield [Training(pool)]
        features = defender.features(model, pool.x)
        scores, removed = np.zeros(len(pool), np.float32), []
        for label in range(pool.classes):
            rows = np.flatnonzero(pool.y == label)
            if not len(rows):
                continue
            scores[rows] = np.linalg.norm(features[rows] - np.median(features[rows], 0), axis=1)
            farthest = rows[np.argsort(-scores[rows], kind="stable")]
            removed.append(farthest[: int(self.share * len(rows))])
        gone = np.concatenate(removed)
        return Verdict(pool.ids[np.sort(gone)], pool.ids, scores)


def main() -> None:
    """Play the quickstart's agents against no defence and against mine."""
    game = backfire.play(
        "quickstart",
        seed=1,
        defenders={"undefended": [], "mine": [FarFromClass(share=0.2)]},
        **{"training.epochs": 5, "data.train_rows": 600, "referee.alone": 0},
    )
    print(game.verdict[0])
    for row in game.scores:
        if row.score in ("clean_accuracy", "asr") and not row.agent:
            print(f"{row.defender:12}{row.group:12}{row.score:16}{row.value:.3f}")


if __name__ == "__main__":
    main()
