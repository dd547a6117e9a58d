"""Networks that lose, delay, cut and swallow: T33."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lossy_wire
from live_deployments import environment, game, replayed

WIRE = Path(lossy_wire.__file__)


def namespaces():
    """Return whether this machine lets a test make network namespaces with a device in each."""
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter", "ip")):
        return False
    trial = f"import sys; sys.path.insert(0, {str(WIRE.parent)!r}); import lossy_wire as w; w.tun()"
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", trial], capture_output=True, check=False,
        env=environment(), timeout=120,
    )  # fmt: skip
    return done.returncode == 0


def over_a_wire(folder, **told):
    command = [
        "unshare",
        "-rn",
        sys.executable,
        str(WIRE),
        json.dumps(told | {"folder": str(folder)}),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=400, env=environment()
    )
    found = re.search(r"^ANSWER (.*)$", done.stdout, re.M)
    assert found, (done.stdout[-3000:], done.stderr[-3000:])
    answer = json.loads(found[1])
    answer["weights"] = (Path(answer["folder"]) / "model.safetensors").read_bytes()
    answer["missed"] = {name: set(rounds) for name, rounds in answer["missed"].items()}
    return answer


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("loss", "delay", "jitter", "partition", "rounds"),
    # The delay is each way: half of the 500 ms +- 200 that a request and its answer take together.
    [(0.05, 0.25, 0.1, (0, 0.0), 2), (0.0, 0.0, 0.0, (2, 90.0), 14)],
    ids=["5 % lost, 500 ms +- 200", "partition of 90 s"],
)
def test_t33_a_bad_network_costs_rounds_at_most(loss, delay, jitter, partition, rounds, tmp_path):
    if not namespaces():
        pytest.skip("this machine lets no test make network namespaces")
    deadline = 10.0 if partition[0] else 120.0
    # All or none: a round for which not all are back yet leaves the model as it was.
    federation = {"rounds": rounds, "quorum": 1.0}
    answer = over_a_wire(
        tmp_path, loss=loss, delay=delay, jitter=jitter, partition=partition, rounds=rounds,
        deadline=deadline, federation=federation,
    )  # fmt: skip
    print(json.dumps({k: answer[k] for k in ("seconds", "carried", "lost", "connected")}))
    absent = answer["missed"]
    assert all(rounds not in missing for missing in absent.values()), absent
    assert bool(absent) == bool(partition[0])
    assert answer["weights"] == replayed(
        game(rounds, deadline=deadline, federation=federation), absent, tmp_path / "here"
    )
