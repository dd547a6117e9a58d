"""T46: secrets of a private agent, planted, and looked for in what the server keeps and says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from backfire.deployment.operations import status
from server.referee.results import GameResult
from small_deployments import deployed

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
SECONDS = 300

# What stands in agent.yaml, and nowhere else.
SEED, EPSILON, RATE = "7316549823016457", "0.1357753197", "0.4642864209"
SECRETS = (SEED, EPSILON, RATE, "heron", "kestrel", "grebe", "random_badnet")
AGENT = f"""\
agent: anna  # kestrel
server: "{{server}}"
data: {{{{kind: npz, path: heron.npz}}}}
behaviour:
  kind: backdoor
  poison_rate: {RATE}
  target: 2
  trigger: {{{{kind: random_badnet, epsilon: {EPSILON}}}}}
seed: {SEED}
accept: {{{{scenarios: [secrets, grebe]}}}}
"""
SCENARIO = {
    "name": "secrets",
    "game": "both",
    "data": {"kind": "synthetic", "classes": 4, "height": 8, "width": 8, "channels": 1,
             "train_per_class": 60, "test_per_class": 10},
    "model": {"kind": "softmax"},
    "training": {"epochs": 2, "batch_size": 16},
    "federation": {"rounds": 2, "local_epochs": 1},
    "agents": [
        {"name": "anna", "behaviour": {"kind": "private", "rows": 50}},
        {"name": "ben", "behaviour": {"kind": "private", "rows": 500}},
        {"name": "carl", "behaviour": {"kind": "benign"}},
    ],
    "defenders": {"none": []},
    "deadline": 120,
    "joining": 120,
}  # fmt: skip


@pytest.fixture
def table(tmp_path):
    agents = ["anna", "ben", "carl"]
    with deployed(tmp_path / "table", agents=agents, hosts=["127.0.0.1"]) as made:
        yield made


@pytest.fixture
def agents(table, tmp_path):
    """Start the three agents as their owners do, with their own words in a file each."""
    rng = np.random.default_rng(1)
    rows = {"x_train": rng.random((60, 8, 8, 1)).astype(np.float32), "y_train": np.arange(60) % 4}
    texts = {
        "anna": AGENT.format(server=table.fleet),
        "ben": f'agent: ben\nserver: "{table.fleet}"\ndata: {{kind: npz, path: heron.npz}}\n',
        "carl": f'agent: carl\nserver: "{table.fleet}"\nplay: scenario\n',
    }
    started = {}
    for name, text in texts.items():
        kit = table.kits / name
        np.savez(kit / "heron.npz", **rows)
        (kit / "agent.yaml").write_text(text)
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "backfire", "agent", "start", str(kit)]
            started[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=ENVIRONMENT
            )
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def texts_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.deploy
def test_t46_no_secret_of_an_agent_is_in_what_the_server_keeps_or_says(table, agents, tmp_path):
    until = time.monotonic() + SECONDS
    while {agent.state for agent in status(table.folder).agents} != {"online"}:
        assert time.monotonic() < until
        assert all(process.poll() is None for process in agents.values())
        time.sleep(0.2)
    (tmp_path / "secrets.yaml").write_text(json.dumps(SCENARIO))
    done = subprocess.run(
        [sys.executable, "-m", "backfire", "run", str(tmp_path / "secrets.yaml"), "--runtime",
         "grpc", "--connection", str(table.folder), "--out", str(tmp_path / "runs"), "--debug"],
        capture_output=True, cwd=ROOT, env=ENVIRONMENT, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "runs").iterdir()
    result = GameResult.model_validate_json((folder / "result.json").read_text())
    anna, ben, carl = result.roster
    assert (anna.claimed, anna.malicious, anna.target, anna.behaviour) == (True, True, 2, "private")
    assert anna.poisoned_rows > 0

    # Ben has too few rows: his own words are in the quarantine, and where his data lie is not.
    assert not ben.admitted
    told = {(e.agent, e.code): e.message for e in result.quarantined}
    assert "asks ben for a share of 500 rows, it has fewer" in told[("ben", "declined")]
    assert not carl.claimed

    key_lines = {
        line
        for name in ("anna", "ben", "carl")
        for line in (table.kits / name / "key").read_bytes().splitlines()
        if b"-----" not in line
    }
    public_prefix = b"b3BlbnNzaC1rZXktdjEAAAAA"  # every OpenSSH key begins like this
    secrets = [secret.encode() for secret in SECRETS]
    secrets += [line for line in key_lines if not line.startswith(public_prefix) and len(line) > 20]
    assert len(secrets) > len(SECRETS) + 6
    planted = b"".join(texts_of(table.kits).values())
    assert [secret for secret in secrets if secret not in planted] == []
    kept = {
        **texts_of(folder),
        **texts_of(table.state),
        **texts_of(table.flower),
        table.folder / "deploy.yaml": (table.folder / "deploy.yaml").read_bytes(),
        Path("what the run said"): done.stdout + done.stderr,
    }
    assert {path.name for path in kept} >= {"rounds.jsonl", "report.html", "link.log", "state.db"}
    found = {
        (path.name, secret) for path, text in kept.items() for secret in secrets if secret in text
    }
    assert found == set()

    # The agents' own logs hold no key either; the table's own authority never leaves pki/.
    logs = b"".join((tmp_path / f"{name}.log").read_bytes() for name in agents)
    assert b"answered query.contribute" in logs
    assert not [line for line in key_lines if line in logs and len(line) > 20]
    authority = table.ca_key.read_bytes().splitlines()[1]
    assert not [path for path, text in kept.items() if authority in text]
