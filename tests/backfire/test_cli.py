"""The command line: exit codes, one line for each mistake, JSON, hostile names that stay inert."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import backfire.cli.main as cli
from backfire import environment
from backfire.cli import tables
from backfire.cli.doctor import Check, examine, healthy
from backfire.cli.progress import Bars, Lines, watched
from scenarios.families import FAMILIES
from scenarios.library import names
from server.events import Event

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b[31m[bold]x[/bold]\u202e"
TINY = """\
name: tiny
data: {kind: synthetic, train_per_class: 30}
model: {kind: softmax}
training: {epochs: 1}
compute: {device: cpu, threads: 1}
agents:
  - {name: honest, behaviour: {kind: benign}}
  - name: mallory
    count: 2
    behaviour: {kind: backdoor, target: distinct, trigger: {kind: patch}}
defenders:
  undefended: []
  filtered: [{kind: spectral_signatures}]
referee: {alone: 1, adversarial: [{kind: fgsm, epsilon: 0.1}]}
"""


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenarios") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def played(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    done = invoke(
        "run", tiny, "--out", out, "--seed", 3, "--set", "agents.mallory.count=3", "--json"
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


# run


def test_run_plays_and_prints_json(played):
    document, progress = played
    result = document["result"]
    assert (result["scenario"], result["seed"]) == ("tiny", 3)
    assert [agent["name"] for agent in result["roster"]] == [
        "honest", "mallory-01", "mallory-02", "mallory-03"
    ]  # fmt: skip
    assert Path(document["report"]).is_file()
    assert Path(document["folder"], "result.json").is_file()
    assert Path(document["folder"]).name.startswith("tiny-")
    # Progress goes elsewhere, one line a step.
    assert re.search(r"^training \d+ %", progress, re.MULTILINE)


def test_run_ends_with_a_table_the_finding_and_the_report(tiny, tmp_path):
    done = invoke("run", tiny, "--out", tmp_path, "--plain")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    for word in ("undefended", "filtered", "mallory", "alone", "Adversarial accuracy under"):
        assert word in done.stdout
    assert "spectral_signatures removed" in done.stdout
    (report,) = re.findall(r"^Report: (.*)$", done.stdout, re.MULTILINE)
    assert Path(report).read_text(encoding="utf-8").startswith("<!doctype html>")
    again = invoke("report", Path(report).parent, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["report"] == report


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped; the run folder is unfinished"),
        (RuntimeError("out of\nmemory \x1b[0m"), 3, "error: RuntimeError: out of memory \\x1b[0m"),
    ],
)
def test_what_goes_wrong_in_a_game_is_one_line(tiny, tmp_path, monkeypatch, error, code, line):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("backfire.playing.play", fail)
    done = invoke("run", tiny, "--out", tmp_path)
    assert done.exit_code == code
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    told = json.loads(invoke("run", tiny, "--out", tmp_path, "--json").stdout)
    assert told["exit_code"] == code
    assert told["messages"][0].startswith(line)
    shown = invoke("run", tiny, "--out", tmp_path, "--debug")
    assert shown.exception is error or shown.exit_code == 130


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("threads", [1, 2])
def test_t6_ctrl_c_ends_with_130_and_leaves_an_unfinished_run(threads, tiny, tmp_path):
    command = [sys.executable, "-m", "backfire", "run", str(tiny), "--out", str(tmp_path)]
    changes = ["training.epochs=100000", f"compute.threads={threads}", "agents.mallory.count=8"]
    with subprocess.Popen(
        [*command, *(part for change in changes for part in ("--set", change))],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        for line in process.stderr:
            if line.startswith("training "):
                break
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == ""
    assert said.splitlines()[-1].startswith("stopped; the run folder is unfinished")
    assert "Traceback" not in said
    (folder,) = tmp_path.iterdir()
    assert (folder / "scenario.yaml").exists()
    assert not (folder / "result.json").exists()


def test_data_that_is_not_there_is_one_line(tiny, tmp_path):
    done = invoke("run", tiny, "--out", tmp_path, "--set", "data={kind: npz, path: absent.npz}")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("--set data: expected a data set, got nothing at ")
    assert line.endswith("absent.npz")
    assert not list(tmp_path.iterdir())  # said before a run folder is made
    absent = ("validate", tiny, "--set", "data={kind: npz, path: absent.npz}")
    assert invoke(*absent).exit_code == 0  # another machine may have it
    assert invoke(*absent, "--data").stderr.splitlines() == [line]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX")
def test_t45_an_output_that_cannot_be_written_is_told_before_the_game(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke("run", tiny, "--out", tmp_path / "file" / "runs")
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert "--out" in line


def test_t45_a_path_that_is_not_ascii_is_fine(tiny, tmp_path):
    out = tmp_path / "läufe 游戏"
    document = json.loads(invoke("run", tiny, "--out", out, "--json").stdout)
    assert Path(document["folder"]).parent == out


# Scenario errors


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_scenario_error_is_told_by_file_and_line(command, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(TINY.replace("epochs: 1", "epocs: 1").replace("count: 2", "count: two"))
    done = invoke(command, path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{path}:4:12 training.epocs: expected a field of training, got 'epocs' "
        "(did you mean 'epochs'?)",
        f"{path}:9:12 agents[1].count: expected a whole number from 1 to 100000, got 'two'",
    ]
    told = json.loads(invoke(command, path, "--json").stdout)
    assert [(p["line"], p["column"], p["field"]) for p in told["problems"]] == [
        (4, 12, "training.epocs"), (9, 12, "agents[1].count")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "quickstrt"], "scenario: expected a scenario file or a name of the library, got "
         "'quickstrt' (did you mean 'quickstart'?)"),
        (["run", "absent.yaml"],
         "absent.yaml: expected a file that can be read, got: No such file or directory"),
        (["run", "quickstart", "--device", "gpu"],
         "error: --device: expected auto, cpu, cuda, cuda:1 or mps, got 'gpu' "
         "(a GPU is called cuda)"),
        (["run", "quickstart", "--set", "seed"], "--set: expected path=value, got 'seed'"),
        (["validate", "\x1b[2J"], None),
        (
            ["list", "triger"],
            "error: expected a family (" + ", ".join(["scenarios", *FAMILIES]) + ") or a name in "
            "one, got 'triger' (did you mean 'trigger'?)",
        ),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line_and_exit_2(arguments, line):
    done = invoke(*arguments)
    assert done.exit_code == 2
    (found,) = done.stderr.splitlines()
    assert found.isprintable()
    assert line is None or found == line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["rum"], 2), (["run"], 2), (["run", "quickstart", "--seed", "-1"], 2),
     (["run", "quickstart", "--runtime", "cloud"], 2), (["--version"], 0)],
)  # fmt: skip
def test_main_ends_with_a_code_and_one_line(arguments, code, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["backfire", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    written = capsys.readouterr()
    assert (written.out + written.err).count("\n") == 1
    assert written.err.startswith("error: ") == (code != 0)


# validate, list, schema, doctor, report


def test_validate_says_what_is_valid(tiny):
    done = invoke("validate", tiny, "quickstart")
    assert done.exit_code == 0
    assert re.fullmatch(
        r".*tiny\.yaml: valid \(3 agents, 2 defenders, [0-9a-f]{12}\)\n"
        r"quickstart: valid \(\d+ agents, 4 defenders, [0-9a-f]{12}\)\n",
        done.stdout,
    )
    one = invoke(
        "validate", tiny, "--set", "defenders={only: []}", "--set", "agents.mallory.count=1"
    )
    assert "(2 agents, 1 defender, " in one.stdout
    told = json.loads(invoke("validate", tiny, "--json").stdout)
    assert told["valid"] is True
    assert told["resolved"]["training"]["batch_size"] == 64
    both = invoke("validate", tiny, "absent.yaml", "--json")
    assert both.exit_code == 2
    assert [item["valid"] for item in json.loads(both.stdout)] == [True, False]


def test_list_shows_scenarios_and_every_family():
    done = invoke("list")
    assert done.exit_code == 0
    for word in (*names(), *FAMILIES, "random_badnet", "spectral_signatures", "agent_indexing"):
        assert word in done.stdout
    document = json.loads(invoke("list", "--json").stdout)
    assert list(document) == ["scenarios", *FAMILIES]
    for family in FAMILIES:
        assert document[family], family
        assert all(item["summary"] for item in document[family])
    (badnet,) = [item for item in document["trigger"] if item["name"] == "random_badnet"]
    assert "A.1.8" in badnet["paper"]
    assert set(badnet["parameters"]) == {"epsilon", "draw", "rho", "stream"}
    assert list(json.loads(invoke("list", "attack", "--json").stdout)) == ["attack"]


def test_list_finds_a_method_by_its_name():
    document = json.loads(invoke("list", "krum", "--json").stdout)
    assert {family: [item["name"] for item in items] for family, items in document.items()} == {
        "aggregation": ["krum"]
    }
    shown = invoke("list", "krum", "--plain").stdout
    assert "Bound on the malicious agents" in shown
    assert "Bound on the malicious agents" not in invoke("list", "aggregation", "--plain").stdout


def test_schema_prints_the_published_schema():
    done = invoke("schema")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["title"] == "Backfire scenario"
    assert invoke("schema", "--json").stdout == done.stdout


def test_doctor_finds_this_machine_healthy(tmp_path):
    done = invoke("doctor", "--out", tmp_path, "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    found = {check["name"]: check for check in document["checks"]}
    assert document["healthy"] is True
    assert found["FLWR_TELEMETRY_ENABLED"]["state"] == "ok"
    assert found["flwr"]["found"].startswith("1.39")
    for name in ("python", "platform", "torch", "ray", "cpu cores", "memory", "run folder"):
        assert name in found
    plain = invoke("doctor", "--out", tmp_path, "--plain")
    assert len(plain.stdout.splitlines()) == len(document["checks"])


def test_doctor_says_what_is_missing_and_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("backfire.cli.doctor.NEEDED", ("numpy", "no-such-package"))
    monkeypatch.setattr("backfire.cli.doctor.FLOWER", ((9, 0), (9, 1)))
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    checks = {check.name: check for check in examine(tmp_path / "file" / "runs")}
    assert not healthy(list(checks.values()))
    for name in ("no-such-package", "flwr version", "run folder"):
        assert checks[name].state == "missing"
        assert checks[name].remedy
    assert checks["FLWR_TELEMETRY_ENABLED"].state == "note"
    assert invoke("doctor", "--out", tmp_path / "file" / "runs").exit_code == 3
    assert healthy([Check("x", "note", "absent", "install it")])


def test_report_of_what_is_no_run_is_one_line(tmp_path):
    done = invoke("report", tmp_path / "absent")
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "expected a run folder" in line


# Help


@pytest.mark.parametrize(
    "command", ["run", "validate", "list", "show", "schema", "doctor", "report"]
)
def test_every_command_has_help_and_json(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert "--json" in done.stdout


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "backfire", "schema"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141


def test_the_module_can_be_run():
    code = [sys.executable, "-m", "backfire", "--help"]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "quickstart" in done.stdout


def test_listing_needs_neither_torch_nor_flower():
    code = (
        "import sys; from backfire.cli.catalogue import catalogue; catalogue();"
        "import backfire.cli.main, backfire.errors;"
        "assert not {'torch', 'flwr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Surroundings


def test_the_surroundings_are_quiet_but_the_users_choice_wins(monkeypatch):
    for name in environment.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    logger = logging.getLogger("flwr")
    environment.prepare()
    environment.prepare()
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "1"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert (
        len([item for item in logger.filters if type(item).__module__ == environment.__name__]) == 1
    )
    record = logging.LogRecord("flwr", logging.INFO, "", 0, "chatter", None, None)
    assert not logger.filter(record)
    assert logger.filter(logging.LogRecord("flwr", logging.ERROR, "", 0, "news", None, None))


# Progress and tables: T43


def console(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False)


def test_progress_elsewhere_is_a_line_at_each_tenth():
    lines, now = console(), 0.0
    show = Lines(lines, clock=lambda: now)
    for done in range(101):
        now = 0.25 * done
        show(Event("training", done, 100, HOSTILE))
    written = [line.split("; about")[0] for line in lines.file.getvalue().splitlines()]
    assert written == [
        f"training {done} %: \\x1b[31m[bold]x[/bold]\\u202e" for done in range(0, 101, 10)
    ]


def test_progress_elsewhere_is_neither_a_flood_nor_silence():
    lines, now = console(), 0.0
    show = Lines(lines, clock=lambda: now)
    for done in range(1, 51):
        now = 0.01 * done
        show(Event("contributions", done, 50))
    for _ in range(50):  # five seconds each without a step done
        now += 5.0
        show(Event("training", 0, 3, "epoch"))
    written = lines.file.getvalue().splitlines()
    assert written[:2] == ["contributions 1/50", "contributions 50/50"]
    assert written[2:] == ["training 0/3: epoch"] * 25


def test_progress_on_a_terminal_moves_bars_and_prints_notes_as_they_are():
    terminal = console(terminal=True)
    with watched(terminal) as observe:
        assert isinstance(observe, Bars)
        observe(Event("contributions", 1, 4, HOSTILE))
        observe(Event("contributions", 4, 4, "[red]done[/red]"))
        observe(Event("scoring", 1, 0, ""))
    written = terminal.file.getvalue()
    assert "4/4" in written
    assert "[red]done[/red]" in written
    assert "\u202e" not in written
    with watched(terminal, plain=True) as observe:
        assert isinstance(observe, Lines)


def test_tables_show_hostile_names_as_text(played):
    from server.referee.results import GameResult, Quarantine

    document, _ = played
    result = GameResult.model_validate_json(json.dumps(document["result"]))
    (scores,) = [s for name, s in result.defenders.items() if name == "filtered"]
    renamed = scores.model_copy(update={"groups": {HOSTILE: scores.groups["mallory"]}})
    result = result.model_copy(
        update={
            "defenders": {"[red]d[/red]": renamed},
            "quarantined": (Quarantine(agent=HOSTILE, code="shape", message="a\nb"),) * 12,
            "verdict": (f"{HOSTILE} backfired",),
        }
    )
    out = console(terminal=True)
    tables.show(result, Path("runs") / "x", out)
    written = out.file.getvalue()
    assert "[red]d[/red]" in written
    assert "\\x1b[31m[bold]x[/bold]\\u202e backfired" in written
    assert "\u202e" not in written
    assert "\x1b[31m" not in written
    assert "shape: a\\nb" in written
    assert "Quarantined: 2 more" in written


def test_the_terminal_shows_what_a_defenders_scores_are_to_be_read_with(played):
    from server.referee.results import GameResult

    document, _ = played
    result = GameResult.model_validate_json(json.dumps(document["result"]))
    silent, told = console(), console()
    tables.show(result, None, silent)
    scores = result.defenders["filtered"].model_copy(update={"notes": (f"bad {HOSTILE}",)})
    result = result.model_copy(update={"defenders": result.defenders | {"filtered": scores}})
    tables.show(result, None, told)
    assert "filtered: bad \\x1b[31m" in told.file.getvalue()
    assert "filtered: bad" not in silent.file.getvalue()


def test_the_table_shows_each_score_beside_its_controls(played):
    from server.referee.findings import is_void
    from server.referee.results import GameResult

    document, _ = played
    result = GameResult.model_validate_json(json.dumps(document["result"]))
    scores = result.defenders["undefended"]
    group = scores.groups["mallory"]
    table = tables.scores_table(result)
    row = [str(next(iter(column.cells))) for column in table.columns]
    compared, gap = group.comparison, group.comparison.interference
    shown = f"{100 * gap.value:+.1f}\n[{100 * gap.low:.0f}, {100 * gap.high:.0f}]"
    assert row == [
        "undefended",
        tables.percent(scores.clean_accuracy.value),
        tables.percent(scores.clean_accuracy_attacker_free.value),
        "mallory",
        tables.percent(group.asr.pooled.value),
        f"{compared.agents}/{compared.of}",
        tables.percent(compared.together.value),
        tables.percent(compared.alone.value),
        tables.percent(compared.untrained.value),
        "void" if is_void(group) else shown,
    ]
    assert tables.percent(None) == "-"
    assert tables.percent(0.12345) == "12.3"
