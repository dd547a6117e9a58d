"""torch for commands that compute nothing: it is imported when something of it is first used.

Methods import torch at the top of their files, as everybody does, and use it where they compute.
To read, check and show a scenario takes none of it.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any, Final

# To import it takes two seconds and 600 MB; all else that checks a scenario takes 60 MB.
HEAVY: Final = "torch"


class _Deferred(ModuleType):
    """A module that is executed when an attribute of it is first asked for; then it is that module.

    `importlib.util.LazyLoader` is not used, since on Python 3.11 a second import statement counts
    as asking for one.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as of any module
        spec = self.__spec__
        if spec is None or spec.loader is None:  # unreachable: `defer_torch` asked for both
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment] # asked for once
        self.__dict__.update(vars(importlib.util.module_from_spec(spec)))
        spec.loader.exec_module(self)
        return getattr(self, name)


def defer_torch() -> None:
    """Let `import torch` take no time in this process, until an attribute of it is asked for.

    What stands at the top of a file and uses it, such as ``from torch import nn`` or a class of
    ``torch.nn.Module``, imports it there and then. Nothing happens where torch is imported
    already, or is not installed.
    """
    if HEAVY in sys.modules:
        return
    spec = importlib.util.find_spec(HEAVY)
    if spec is not None and spec.loader is not None:
        module = _Deferred(HEAVY)
        # `__path__` is left out, so that whoever imports a module of torch's imports torch first.
        module.__spec__, module.__file__ = spec, spec.origin
        sys.modules[HEAVY] = module
