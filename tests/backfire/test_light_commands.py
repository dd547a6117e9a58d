"""Commands that compute nothing import nothing that computes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Of each package that takes long to import: what is there once it has been executed.
HEAVY = (
    "torch._C",
    "torchvision",
    "scipy.stats",
    "scipy.linalg",
    "scipy.special",
    "sklearn",
    "flwr",
    "ray",
    "grpc",
    "pyarrow",
    "pandas",
    "matplotlib",
)
PLAYED = """
import json, sys
from backfire.cli.main import main
sys.argv = ["backfire", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)
"""
DEFERRED = """
import sys
from backfire.deferred import defer_torch
defer_torch()
import torch
import torch as again
assert "torch._C" not in sys.modules
import torch.nn.functional as F
assert "torch._C" in sys.modules
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        return F.relu(x)
assert torch is again is sys.modules["torch"] and torch.nn is nn
assert isinstance(Net()(torch.tensor([-1.0, 2.0])), torch.Tensor)
defer_torch()
import torch as still
assert still is torch and torch.ones(2).sum() == 2
"""


@pytest.mark.parametrize(
    "command",
    [
        ["validate", "quickstart"],
        ["validate", "federated/quickstart", "--set", "training.epochs=0"],
        ["validate", "papers/s1/table3_small", "--json"],
        ["list"],
        ["list", "krum", "--json"],
        ["schema"],
        ["show", "krum"],
    ],
    ids=" ".join,
)
def test_what_is_only_read_takes_no_library_that_computes(command: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PLAYED, json.dumps(command)],
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(ended.stderr.splitlines()[-1])
    assert code == (2 if "training.epochs=0" in command else 0)
    assert "learning.method" in loaded or command[0] in ("list", "show")
    assert not set(HEAVY) & set(loaded)


def test_torch_that_is_deferred_is_torch_as_soon_as_it_is_used() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DEFERRED], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
