"""An attack of my own: a backdoor that listens for a bright frame around the image.

python examples/my_attack.py
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

import backfire
from learning.triggers.base import Pattern, TriggerKey


class Frame(backfire.Trigger):
    """The outermost pixels, all of one brightness."""

    kind: Literal["frame"] = "frame"
    value: float = Field(1.0, ge=0, le=1, description="Brightness of the frame.")

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the frame; it is the same for every agent and row."""
        _, height, width = shape
        if min(height, width) < 3:
            raise ValueError(f"expected images of at least 3x3 pixels, got {height}x{width}")
        mask = np.ones((1, 1, height, width), np.float32)
        mask[..., 1:-1, 1:-1] = 0
        return Pattern(mask, np.full((1, *shape), self.value, np.float32))


def main() -> None:
    """Let one agent in five train the frame in, and see how often it is obeyed."""
    game = backfire.play(
        {
            "name": "my attack",
            "data": {"kind": "digits", "train_rows": 800, "test_rows": 200},
            "model": {"kind": "mlp"},
            "training": {"epochs": 10},
            "agents": [
                {"name": "honest", "count": 4, "behaviour": {"kind": "benign"}},
                {
                    "name": "mallory",
                    "behaviour": {
                        "kind": "backdoor",
                        "poison_rate": 0.5,
                        "target": 0,
                        "trigger": Frame(),
                    },
                },
            ],
            "defenders": {"undefended": []},
        }
    )
    print("\n".join(game.verdict))
    print(f"Report: {game.report()}")


if __name__ == "__main__":
    main()
