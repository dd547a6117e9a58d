"""The name of a game that no two different games share: a hash of its resolved scenario."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

UNHASHED = frozenset({"compute", "description"})


def digest_of(resolved: Mapping[str, Any], plugins: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the SHA-256 (hex) of a resolved scenario, its seed included.

    `compute` and `description` do not change what the game is and are left out, but for
    ``compute.bfloat16``: models that are trained with 8 bits of precision are other models. What
    a data file holds is not hashed, only its path. Of methods that are not of this house their
    package, its version and their code are hashed too: the same name can be another method.

    Args:
        resolved: The scenario with every default written out, as JSON values.
        plugins: Where such methods come from; see `learning.method.plugins_in`.
    """
    hashed = {key: value for key, value in resolved.items() if key not in UNHASHED}
    if resolved.get("compute", {}).get("bfloat16"):
        hashed["bfloat16"] = True
    if plugins:
        hashed["plugins"] = list(plugins)
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
