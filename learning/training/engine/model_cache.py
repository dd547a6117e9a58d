"""Models that several games train alike, trained once: the same weights, bit for bit.

On a CPU a model's bits do not depend on the models that it is trained together with
(`tests/learning/test_training_known.py`), so that a game may take over what another one trained on
equal rows with an equal recipe. On other devices they do, and nothing is taken over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learning.training.job import Trained


@dataclass(eq=False)
class ModelCache:
    """Trained models by all that their weights follow from; the longest unused go first.

    Attributes:
        limit: Bytes of weights that are kept.
    """

    limit: int = 2**28
    _models: OrderedDict[Hashable, Trained] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: Hashable) -> Trained | None:
        """Return a model, if it is known."""
        found = self._models.get(key)
        if found is not None:
            self._models.move_to_end(key)
        return found

    def put(self, key: Hashable, model: Trained) -> None:
        """Keep a model; nobody may change it from now on."""
        size = _size(model)
        if key in self._models or size > self.limit:
            return
        self._models[key] = model
        self._bytes += size
        while self._bytes > self.limit:
            self._bytes -= _size(self._models.popitem(last=False)[1])


def _size(model: Trained) -> int:
    modules = [one for one in (model.module, model.averaged) if one is not None]
    return sum(value.nbytes for module in modules for value in module.state_dict().values())
