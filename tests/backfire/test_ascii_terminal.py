"""Case ascii-terminal: every command ends well on a terminal that is not UTF-8, too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "étude №1 – 猫"
GAME = f"""\
name: "{NAME}"
data: {{kind: digits, train_rows: 200, test_rows: 50}}
model: {{kind: softmax}}
training: {{epochs: 2}}
referee: {{alone: 0, attacker_free: false}}
agents:
  - {{name: honest, count: 2, behaviour: {{kind: benign}}}}
  - name: mallory
    behaviour: {{kind: backdoor, poison_rate: 0.2, target: 0, trigger: {{kind: patch}}}}
defenders:
  "défense": []
"""
# One process for all commands: each would import everything anew.
ALL = """\
import json, sys
from backfire.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["backfire", *arguments]
    print("==", flush=True)
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        print("code", end.code, flush=True)
"""


def ended(*commands, env):
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps([list(map(str, one)) for one in commands])],
        capture_output=True, check=False, cwd=ROOT, timeout=300, env={**os.environ, **env},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("env", "encoding", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "ascii", "\\xe9\\u732b"),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1", "é\\u732b"),
        ({"PYTHONIOENCODING": "utf-8"}, "utf-8", "é猫"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, "ascii", "\\xe9\\u732b"),
    ],
)
def test_what_a_terminal_cannot_show_is_escaped_and_nothing_else(env, encoding, shown):
    out, err = ended(["list", "é猫"], env={"PYTHONUTF8": "0", **env})
    assert b"code 2" in out
    assert err.decode(encoding).rstrip().endswith(f"got '{shown}'")


def test_games_and_sweeps_are_played_and_told_on_a_terminal_of_ascii(tmp_path):
    game, wrong, sweep = (tmp_path / f"{name}.yaml" for name in ("game", "wrong", "sweep"))
    game.write_text(GAME, "utf-8")
    wrong.write_text(GAME.replace("count: 2", "count: zwölf"), "utf-8")
    axes = "sweep: {seeds: 1, axes: {é: {field: training.epochs, values: [1]}}}\n"
    sweep.write_text(GAME + axes, "utf-8")
    out, err = ended(
        ["validate", game, wrong],
        ["run", wrong],
        ["run", game, "--out", tmp_path],
        ["sweep", sweep, "--out", tmp_path],
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    told = out.decode("ascii").splitlines()
    assert [line for line in told if line.startswith("code ")] == [
        "code 2", "code 2", "code 0", "code 0"
    ]  # fmt: skip
    assert err.decode("ascii").count("got 'zw\\xf6lf'") == 2
    assert any("\\xe9tude \\u21161 \\u2013 \\u732b, seed 0" in line for line in told)
    assert any("d\\xe9fense" in line for line in told)
    reports = [line.removeprefix("Report: ") for line in told if line.startswith("Report: ")]
    assert [Path(report).is_file() for report in reports] == [True, True]
