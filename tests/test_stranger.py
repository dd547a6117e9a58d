"""A stranger adds a method of every kind by its page alone: one file and one test, nothing else.

The files are the lines of the pages as they stand, in a package of its own that is installed
beside Backfire. Its tests pass, its methods are found and played, and the run says whose they are.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stranger import install

ROOT = Path(__file__).parents[1]
# By family: the page, and the class and the kind that it adds.
ADDED = {
    "filtering": ("adding-a-filter.md", "SmallestMargin", "smallest_margin"),
    "aggregation": ("adding-an-aggregation-rule.md", "UsualNorms", "usual_norms"),
    "update_attack": ("adding-an-update-attack.md", "PushBack", "push_back"),
    "trigger": ("adding-a-trigger.md", "Line", "line"),
    "model": ("adding-a-model.md", "Sigmoids", "sigmoids"),
    "data": ("adding-a-data-set.md", "Bars", "bars"),
    "hook": ("adding-a-hook.md", "NoisyBatch", "noisy_batch"),
    "score": ("adding-a-score.md", "StrayAnswers", "stray_answers"),
}
PACKAGE = "stranger_kit"
SCENARIO = """
name: a strangers game
game: both
data: {kind: bars, side: 6, rows: 120, test_share: 0.3}
model: {kind: sigmoids}
training: {epochs: 2, batch_size: 16}
federation: {rounds: 2}
defender_share: 0.2
run_time_share: 0.3
agents:
  - {name: benign, count: 4, behaviour: {kind: benign}}
  - name: mallory
    behaviour: {kind: backdoor, trigger: {kind: line}, target: 0, poison_rate: 0.5}
    update: {kind: push_back}
referee: {scores: [{kind: stray_answers}]}
defenders:
  undefended: []
  kit: [{kind: smallest_margin}, {kind: noisy_batch}]
  norms: [{kind: usual_norms, f: 1}]
"""
# What a stranger does at the command line, in one process: it imports torch once.
SESSION = """
import importlib, json, sys
from typer.testing import CliRunner
from backfire.cli.main import app

def call(*words):
    done = CliRunner().invoke(app, list(words))
    return {"code": done.exit_code, "out": done.output}

said = {}
for family in json.loads(sys.argv[1]):
    module = importlib.import_module(f"stranger_tests.test_{family}")
    tests = [name for name in vars(module) if name.startswith("test_")]
    for name in tests:
        getattr(module, name)()
    said[family] = len(tests)
said["validate"] = call("validate", "game.yaml")
said["list"] = call("list", "--json")
said["doctor"] = call("doctor", "--json")
said["run"] = call("run", "game.yaml", "--out", "runs", "--plain")
print("\\n" + json.dumps(said))
"""


def files():
    """Return the package: of each page the method in one file and its test in another."""
    found = {f"{PACKAGE}/__init__.py": "", "stranger_tests/__init__.py": ""}
    for family, (page, _, _) in ADDED.items():
        blocks = re.findall(
            r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.M | re.S
        )
        tests = [block for block in blocks if "def test_" in block]
        method = [block for block in blocks if block not in tests]
        found[f"{PACKAGE}/{family}.py"] = "\n\n".join(method)
        start = f"from {PACKAGE}.{family} import *\n"
        found[f"stranger_tests/test_{family}.py"] = "\n\n".join([start, *tests])
    return found


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stranger")
    points = {
        f"backfire.{family}": {kind: f"{PACKAGE}.{family}:{name}"}
        for family, (_, name, kind) in ADDED.items()
    }
    install(folder, "stranger-kit", files(), points)
    (folder / "game.yaml").write_text(SCENARIO)
    return folder


@pytest.fixture(scope="module")
def said(at):
    """Return what a stranger's session printed."""
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    path = os.pathsep.join([str(ROOT), str(at)])
    done = subprocess.run(
        [sys.executable, "-c", SESSION, json.dumps(list(ADDED))],
        cwd=at,
        env={**known, "PYTHONPATH": path, "BACKFIRE_PLUGINS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_page_gives_one_file_of_the_method_and_one_of_its_tests(said):
    assert len(files()) == 2 + 2 * len(ADDED)
    assert all(said[family] >= 2 for family in ADDED)


def test_the_methods_are_listed_with_their_package(said):
    listed = json.loads(said["list"]["out"])
    for family, (_, _, kind) in ADDED.items():
        (item,) = [item for item in listed[family] if item["name"] == kind]
        assert "(plug-in of stranger-kit 1.2)" in item["summary"]
        assert item["parameters"]
    assert sum("plugin" in item for items in listed.values() for item in items) == len(ADDED)


def test_the_doctor_finds_them_ready(said):
    checks = {
        check["name"]: check["state"] for check in json.loads(said["doctor"]["out"])["checks"]
    }
    for family, (_, _, kind) in ADDED.items():
        assert checks[f"plug-in {family}/{kind} of stranger-kit 1.2"] == "ok"


def test_a_game_with_all_of_them_is_valid_and_played(said):
    assert said["validate"]["code"] == 0, said["validate"]["out"]
    assert said["run"]["code"] == 0, said["run"]["out"]


def test_the_run_says_whose_methods_it_was_played_with_and_with_which_code(said, at):
    assert said["run"]["code"] == 0
    (run,) = (at / "runs").iterdir()
    plugins = json.loads((run / "environment.json").read_text())["plugins"]
    assert {one["method"] for one in plugins} == {
        f"{PACKAGE}.{family}.{name}" for family, (_, name, _) in ADDED.items()
    }
    assert {(one["distribution"], one["version"]) for one in plugins} == {("stranger-kit", "1.2")}
    assert len({one["code"] for one in plugins}) == 1  # all are in one package
    assert len(plugins[0]["code"]) == 64
    # Its hash fits its files: it is read without the package, too.
    from server.store.run_folder import RunFolder

    result = RunFolder.open(run).result()
    assert run.name.endswith(result.scenario_hash[:12])
    from scenarios.digest import digest_of

    assert result.scenario_hash != digest_of(RunFolder.open(run).scenario())


def test_the_score_is_in_result_report_terminal_and_long_table(said, at):
    (run,) = (at / "runs").iterdir()
    from backfire.evidence.rows import rows_of
    from server.store.run_folder import RunFolder

    # The package is not here: what is shown of its score stands in the result.
    result = RunFolder.open(run).result()
    assert result.asked["stray_answers"].head == "stray answers"
    for scores in result.defenders.values():
        own = scores.agents["mallory"].more["stray_answers"]
        assert own.count == scores.agents["mallory"].asr.count
        assert scores.groups["mallory"].more["stray_answers"].pooled == own
        honest = [agent for name, agent in scores.agents.items() if name != "mallory"]
        assert len(honest) == 4
        assert not any(agent.more for agent in honest)
    rows = [row for row in rows_of(result, {}, "") if row.score == "stray_answers"]
    assert {row.agent for row in rows} == {"mallory", ""}
    assert all(row.hits is not None for row in rows)
    page = (run / "report.html").read_text()
    assert page.count("stray answers") >= 2  # a row, and a column of each table of agents
    assert result.definitions["stray_answers"] in page
    assert "stray answers" in said["run"]["out"]
