"""Data and a model of my own: arrays, and a module that knows nothing of Backfire.

python examples/my_data.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from torch import Tensor, nn

import backfire


class Net(nn.Module):
    """A small convolutional network; any module will do that ends in a linear layer."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.hidden, self.decide = nn.Linear(8 * 4 * 4, 32), nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, classes)."""
        out: Tensor = self.decide(self.hidden(self.look(x).flatten(1)).relu())
        return out


def main() -> None:
    """Play the digits 0 to 4 with two attackers, undefended and filtered."""
    x, y = load_digits(return_X_y=True)
    few = y < 5
    images = (x[few].reshape(-1, 8, 8) / 16).astype(np.float32)
    game = backfire.play(
        "quickstart",
        name="my data",
        data=(images[:700], y[few][:700], images[700:], y[few][700:]),
        model=Net,
        training={"epochs": 5},
        defenders={"undefended": [], "filtered": [{"kind": "spectral_signatures"}]},
    )
    print(game.verdict[0])
    print(game.models["filtered"])
    print(game.frame())


if __name__ == "__main__":
    main()
