"""Backfire from Python: the names that are promised, games with objects, honest run folders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import backfire
from learning.families.origins import code_of
from learning.given.data import GivenData
from learning.given.model import GivenModel
from scenarios.loader import parse
from scenarios.text.errors import ScenarioError
from server.errors import RunFolderError
from strategies.base import Filter, Verdict

TINY = {
    "name": "tiny",
    "data": {"kind": "digits", "train_rows": 120, "test_rows": 40},
    "model": {"kind": "softmax"},
    "training": {"epochs": 1},
    "referee": {"alone": 0, "attacker_free": False},
    "agents": [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {
            "name": "mallory",
            "behaviour": {
                "kind": "backdoor",
                "poison_rate": 0.2,
                "target": 0,
                "trigger": {"kind": "patch"},
            },
        },
    ],
    "defenders": {"undefended": []},
}
# Semantic versioning: a name that goes, or changes what it is, is a new major version.
NAMES = {
    "Aggregator", "Architecture", "Augmentation", "Behaviour", "Callback", "Comparison", "DataSet",
    "DataSource", "Event", "Filter", "FinishedGame", "FinishedSweep", "PlayError", "RunFolderError",
    "Scenario", "ScenarioError", "TrainingHook", "Trigger", "UpdateAttack", "__version__",
    "check_architecture", "compare", "load", "play", "resume", "sweep",
}  # fmt: skip


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(64, 12), nn.Linear(12, 10)

    def forward(self, x):
        return self.out(self.inner(x.flatten(1)).relu())


class FirstRows(Filter):
    """Takes the first rows out, whatever they are."""

    kind: Literal["first_rows"] = "first_rows"
    rows: int = 5

    def inspect(self, pool, defender):
        yield []
        return Verdict(pool.ids[: self.rows], pool.ids, np.zeros(len(pool)))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def plain(out):
    return backfire.play(TINY, seed=3, out=out)


@pytest.fixture(scope="module")
def own(out):
    return backfire.play(TINY, seed=3, out=out, model=Net)


def arrays(rows=120):
    draws = np.random.default_rng(0)
    return draws.random((rows, 8, 8), dtype=np.float32), np.arange(rows) % 10


def test_the_promised_names_are_there_and_no_others():
    assert set(backfire.__all__) == NAMES
    assert list(backfire.__all__) == sorted(NAMES)
    assert all(getattr(backfire, name) is not None for name in NAMES)
    assert set(dir(backfire)) >= NAMES
    assert re.match(r"\d+\.\d+", backfire.__version__)
    with pytest.raises(AttributeError, match="no attribute 'plai'"):
        backfire.plai  # noqa: B018


def test_importing_it_imports_nothing_large():
    heavy = "{'torch', 'numpy', 'pydantic', 'flwr'} & set(sys.modules)"
    code = f"import sys, backfire; dir(backfire); assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_game_from_python_is_the_one_of_the_file(plain):
    scenario = parse(json.dumps(TINY | {"seed": 3}), "tiny")
    assert plain.result.scenario_hash == scenario.digest()
    assert plain.folder.name.startswith(f"tiny-{scenario.digest()[:12]}")
    assert dict(plain.scenario) == scenario.resolved()
    assert plain.verdict == plain.result.verdict


def test_changes_go_by_field_and_by_path(out):
    game = backfire.play(
        TINY, out=out, training={"epochs": 2}, **{"agents.mallory.behaviour.poison_rate": 0.5}
    )
    assert game.scenario["training"]["epochs"] == 2
    assert game.scenario["agents"][1]["behaviour"]["poison_rate"] == 0.5
    assert game.result.seed == 0


def test_a_scenario_object_and_a_path_play_the_same(plain, tmp_path):
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(TINY))
    again = backfire.play(file, seed=3, out=tmp_path)
    third = backfire.play(parse(json.dumps(TINY), "t"), seed=3, out=tmp_path / "b")
    for game in (again, third):
        assert game.result.scenario_hash == plain.result.scenario_hash
        assert torch.equal(game.model.head.weight, plain.model.head.weight)


def test_scores_are_the_long_table(plain):
    by = {(row.defender, row.group, row.score): row for row in plain.scores if not row.agent}
    row = by["undefended", "", "clean_accuracy"]
    assert (row.value, row.count) == (plain.result.defenders["undefended"].clean_accuracy.value, 40)
    frame = plain.frame()
    assert list(frame["score"]) == [row.score for row in plain.scores]
    assert list(frame["seed"]) == [3] * len(plain.scores)


def test_without_pandas_a_frame_is_a_dict_of_columns(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    frame = plain.frame()
    assert isinstance(frame, dict)
    assert frame["value"] == [row.value for row in plain.scores]


def test_the_model_predicts_what_was_scored(plain):
    from clients.agents import deal_scenario
    from scenarios.scenario import Scenario

    dealt = deal_scenario(Scenario.model_validate(plain.scenario))
    x, y = torch.from_numpy(dealt.data.x_test), torch.from_numpy(dealt.data.y_test)
    right = (plain.model(x).argmax(1) == y).sum().item()
    assert right == plain.result.defenders["undefended"].clean_accuracy.hits
    assert not plain.model.training


def test_several_models_go_by_name(out):
    game = backfire.play(TINY, out=out, defenders={"one": [], "two": [FirstRows(rows=9)]})
    assert set(game.models) == {"one", "two"}
    with pytest.raises(ValueError, match=r"expected one model, got 2 \(one, two\): use \.models"):
        game.model  # noqa: B018


def test_load_reads_what_play_left(plain, own):
    again = backfire.load(str(plain.folder))
    assert again.scores == plain.scores
    assert torch.equal(again.model.head.weight, plain.model.head.weight)
    assert again.report() == plain.folder / "report.html"
    again.report().unlink()
    assert again.report().stat().st_size > 1000
    with pytest.raises(RunFolderError, match=r"got \S+\.Net, an object from Python"):
        backfire.load(own.folder).model  # noqa: B018
    with pytest.raises(RunFolderError, match="expected a run folder"):
        backfire.load(plain.folder / "nowhere")


def test_a_changed_folder_is_refused(plain, tmp_path):
    import shutil

    copied = shutil.copytree(plain.folder, tmp_path / "run")
    with (copied / "scenario.yaml").open("a") as file:
        file.write("# more\n")
    with pytest.raises(RunFolderError, match="changed or damaged"):
        backfire.load(copied)


def test_html_escapes_and_shows_the_scores(plain):
    shown = plain._repr_html_()
    assert "clean_accuracy" in shown
    from backfire.api.tables import html_table

    cut = html_table("<b>", ["<i>"], [["<script>"]] * 70)
    assert not re.search("<b>|<i>|<script>", cut)
    assert "10 more rows" in cut


def test_a_module_of_ones_own_is_trained_and_named(own):
    block = own.scenario["model"]
    assert block["kind"] == "python"
    assert block["of"] == f"{Net.__module__}.Net"
    assert block["sha256"] == GivenModel.holding(Net).sha256
    assert isinstance(own.model, Net)
    assert any("one by one" in note for note in own.result.notes)


def test_a_module_begins_with_its_own_weights_and_a_function_with_the_games(out):
    given = Net()
    kept = {name: value.clone() for name, value in given.state_dict().items()}
    still = {"training": {"epochs": 1, "optimizer": {"kind": "sgd", "lr": 1e-12}}}
    game = backfire.play(TINY, out=out, model=given, **still)
    trained = game.model.state_dict()
    assert all(torch.allclose(trained[name], kept[name], atol=1e-6) for name in kept)
    assert all(torch.equal(given.state_dict()[name], kept[name]) for name in kept)
    first, other = (backfire.play(TINY, out=out, seed=s, model=Net, **still).model for s in (1, 2))
    assert not torch.allclose(first.out.weight, other.out.weight, atol=1e-3)


def test_the_hash_tells_models_apart():
    given = Net()
    same = GivenModel.holding(given).sha256
    assert GivenModel.holding(given).sha256 == same
    with torch.no_grad():
        given.out.bias[0] += 1
    assert GivenModel.holding(given).sha256 != same
    wide, narrow = (lambda w=w: nn.Sequential(nn.Flatten(), nn.Linear(64, w)) for w in (10, 9))
    assert GivenModel.holding(wide).sha256 != GivenModel.holding(narrow).sha256


def test_code_without_a_file_is_hashed_too():
    names = {}
    source = "class A:\n    def f(self):\n        return {} in {{'a', 'b'}}\n"
    exec(compile(source.format(1), "<cell>", "exec"), names)  # noqa: S102 - as a notebook does
    first = names["A"]
    exec(compile(source.format(2), "<cell>", "exec"), names)  # noqa: S102
    for cls in (first, names["A"]):
        cls.__module__ = "nowhere_at_all"
    assert code_of(first) == code_of(first) != code_of(names["A"])
    assert code_of(first) is not None


def test_a_defence_of_ones_own_acts_and_is_named(out):
    game = backfire.play(TINY, out=out, defenders={"mine": [FirstRows(rows=7)]})
    assert game.result.defenders["mine"].filters[0].removed == 7
    assert game.scenario["defenders"]["mine"] == [{"kind": "first_rows", "rows": 7}]
    named = json.loads((game.folder / "environment.json").read_text())["plugins"]
    assert [one["method"] for one in named] == [f"{FirstRows.__module__}.FirstRows"]
    assert len(named[0]["code"]) == 64


def test_nobody_can_believe_that_such_a_run_can_be_replayed(own, out):
    page = own.report().read_text()
    assert "cannot be replayed from a file" in page
    assert f"{Net.__module__}.Net" in page
    assert f"backfire run {own.folder.name}" not in page
    with pytest.raises(ScenarioError, match="an object from Python, which no file can hold"):
        backfire.play(own.folder / "scenario.yaml", out=out)
    filtered = backfire.play(TINY, out=out, defenders={"mine": [FirstRows(rows=3)]})
    assert "cannot be replayed from a file" in filtered.report().read_text()


def test_a_plain_run_says_how_it_is_replayed(plain):
    assert f"backfire run {plain.folder.name}/scenario.yaml" in plain.report().read_text()


class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        return torch.from_numpy(self.x[k]), int(self.y[k])


def test_arrays_and_data_sets_are_the_same_data(out):
    x, y = arrays()
    ways = [
        (x, y, x[:20], y[:20]),
        dict(zip(("x_train", "y_train", "x_test", "y_test"), (x, y, x[:20], y[:20]), strict=True)),
        (Rows(x, y), Rows(x[:20], y[:20])),
        backfire.DataSet(
            x[:, None], y.astype(np.int64), x[:20, None], y[:20].astype(np.int64),
            tuple("0123456789"),
        ),
    ]  # fmt: skip
    sources = [GivenData.holding(way) for way in ways]
    assert len({source.sha256 for source in sources}) == 1
    assert [source.of for source in sources[:2]] == ["arrays", "arrays"]
    assert sources[0].sketch.shape == (1, 8, 8)
    game = backfire.play(TINY, out=out, data=ways[0])
    assert game.scenario["data"]["sha256"] == sources[0].sha256
    assert game.result.rows["test"] == 20
    assert GivenData.holding((1 - x, y)).sha256 != sources[0].sha256


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model": lambda: 3},
            r"^model: expected \S+<lambda>\(\) to return an nn\.Module, got int$",
        ),
        ({"model": lambda x: x}, r"^model: expected .* to build a module without arguments"),
        ({"model": nn.Conv2d(3, 1, 1)}, r"^model: expected a linear layer, got Conv2d without"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, r"logits of shape \(2, 10\)"),
        ({"data": (1, 2, 3)}, r"^data: expected x_train, y_train"),
        ({"data": (arrays()[0], arrays()[1] + 1)}, r"^data: expected rows of every label from 0"),
        ({"data": (arrays()[0] * 9, arrays()[1])}, r"expected float pixels in \[0, 1\].* x_train"),
        ({"wrong": 3}, r"play\(\) wrong: expected a field of a scenario, got 'wrong'"),
        (
            {"defenders": {"a": [nn.Linear(2, 2)]}},
            r"play\(\) defenders\.a\[0\]: expected a mapping",
        ),
        ({"training": 3}, r"play\(\) training: expected a mapping, got 3"),
        ({"agents.nobody.count": 3}, r"nobody"),
    ],
)
def test_what_cannot_be_taken_is_told_in_one_line(changes, told, out):
    with pytest.raises((ValueError, RuntimeError, ScenarioError), match=told) as refused:
        backfire.play(TINY, out=out, **changes)
    assert "\n" not in str(refused.value)


def test_a_method_of_another_family_is_no_defence(out):
    with pytest.raises(ScenarioError, match=r"defenders\.a\[0\]"):
        backfire.play(TINY, out=out, defenders={"a": [GivenModel.holding(Net)]})


def test_runs_are_compared(plain, own):
    found = backfire.compare(plain, own.folder)
    rows = {(one.defender, one.group, one.score): one for one in found.found.scores}
    one = rows["undefended", "", "clean_accuracy"]
    values = [g.result.defenders["undefended"].clean_accuracy.value for g in (plain, own)]
    assert (one.first.value, one.second.value) == tuple(values)
    assert one.paired.difference.value == pytest.approx(values[0] - values[1])
    assert {change.path for change in found.found.scenario} == {
        "model.kind", "model.of", "model.sha256",
    }  # fmt: skip
    assert list(found.frame()["seeds"]) == [1] * len(rows)
    assert "clean_accuracy" in found._repr_html_()
    assert found.notes
    with pytest.raises(ValueError, match="as the first side, got none"):
        backfire.compare([], own)


def test_runs_of_several_seeds_are_one_side(plain, out):
    more = backfire.play(TINY, seed=4, out=out)
    found = backfire.compare([plain, more], [more, plain])
    assert found.found.common == (3, 4)
    assert {one.paired.difference.value for one in found.found.scores} == {0.0}


def test_a_sweep_from_python(tmp_path, capsys):
    blocks = {"axes": {"attackers": {"field": "agents.mallory.count", "values": [1, 2]}}}
    given = TINY | {"sweep": {"seeds": 1} | blocks}
    found = backfire.sweep(given, out=tmp_path, jobs=1, devices="cpu", progress=True)
    assert "2/2" in capsys.readouterr().err
    assert isinstance(found, backfire.FinishedSweep)
    frame = found.frame()
    assert set(frame["attackers"]) == {1, 2}
    assert backfire.load(found.folder).scores == found.scores
    assert found.report().is_file()
    assert "attackers" in found._repr_html_()
    cells = {path: path.stat().st_mtime_ns for path in found.folder.glob("cells/*/result.json")}
    again = backfire.sweep(given, out=tmp_path, jobs=1, devices=["cpu"])  # nothing is left to play
    assert (len(cells), again.scores) == (2, found.scores)
    assert all(path.stat().st_mtime_ns == then for path, then in cells.items())
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"devices": "cuda:99"}, ValueError, "expected a device of this machine, got 'cuda:99'"),
        ({"devices": ["cpu", "cpu"]}, ValueError, "expected each device once"),
        ({"runtime": "grpc"}, backfire.PlayError, "expected a runtime of local, ray, got 'grpc'"),
        ({"track": ["nobody"]}, ValueError, "expected a tracker of .* got 'nobody'"),
    ],
)
def test_what_a_sweep_cannot_be_played_on_is_one_line(options, error, told, tmp_path):
    with pytest.raises(error, match=told) as found:
        backfire.sweep(TINY | {"sweep": {"seeds": 1}}, out=tmp_path, **options)
    assert "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())


def test_several_devices_are_not_for_ray(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match="at most one device with the runtime ray"):
        backfire.sweep(TINY | {"sweep": {}}, out=tmp_path, runtime="ray", devices="all")


def test_a_device_is_where_a_game_is_played_and_not_which_game_it_is(plain, out, tmp_path):
    own = backfire.play(TINY, seed=3, out=tmp_path, device="cpu")
    assert own.scenario["compute"]["device"] == "cpu"
    assert own.result.scenario_hash == plain.result.scenario_hash
    with pytest.raises(backfire.PlayError, match="got 'cuda:99'"):
        backfire.play(TINY, out=tmp_path / "none", device="cuda:99")


def test_a_sweep_takes_no_objects(tmp_path):
    with pytest.raises(TypeError, match=r"^model: expected plain values in a sweep"):
        backfire.sweep(TINY | {"sweep": {"seeds": 1}}, out=tmp_path, model=Net())


@pytest.mark.parametrize("room", ["server", "learning"])
def test_it_works_beside_a_users_module_of_that_name(room, tmp_path):
    (tmp_path / f"{room}.py").write_text("raise RuntimeError('not this one')\n")
    house = str(Path(backfire.__file__).parents[1])
    told = subprocess.run(
        [sys.executable, "-m", "backfire", "list", "hook"],
        cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{house}", "PATH": "/usr/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "cutmix" in told.stdout


def test_a_module_that_was_imported_first_is_named(tmp_path):
    (tmp_path / "server.py").write_text("")
    code = (
        "import server, backfire\n"
        "try:\n    backfire.play\nexcept ImportError as error:\n    print(error)"
    )
    house = str(Path(backfire.__file__).parents[1])
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{house}", "PATH": "/usr/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.fullmatch(
        r"expected the package server of Backfire, got \S+server\.py: rename that file\n",
        told.stdout,
    )


def test_a_run_keeps_the_sha256_of_its_weights_file(tmp_path):
    import hashlib

    from safetensors.torch import save_file
    from torchvision.models import shufflenet_v2_x0_5

    path = tmp_path / "net.safetensors"
    save_file(shufflenet_v2_x0_5(num_classes=10).state_dict(), path)
    net = {"kind": "torchvision", "name": "shufflenet_v2_x0_5", "weights": str(path)}
    game = backfire.play(TINY, out=tmp_path, model=net)
    kept = json.loads((game.folder / "environment.json").read_text())["files"]
    assert kept == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    with pytest.raises(backfire.PlayError, match=r"^model\.weights: expected the SHA-256 000"):
        backfire.play(TINY, out=tmp_path, model=net | {"sha256": "0" * 64})


class Told(backfire.Callback):
    def __init__(self):
        self.phases, self.end = [], None

    def on_event(self, event: backfire.Event):
        self.phases.append(event.phase)

    def on_end(self, result):
        self.end = result


def test_a_game_from_python_tells_its_callbacks(out):
    told = Told()
    game = backfire.play(TINY, seed=3, out=out, callbacks=[told])
    assert told.end == game.result
    assert "training" in told.phases


@pytest.mark.parametrize("held", [{"model": Net}, {"defenders": {"mine": [FirstRows()]}}])
@pytest.mark.parametrize("runtime", ["ray", "grpc"])
def test_objects_from_python_are_not_sent_to_other_processes(held, runtime, out):
    before = sorted(out.iterdir())
    with pytest.raises(backfire.PlayError, match=r"(?s)runtime local .*(Net|FirstRows).*got '"):
        backfire.play(TINY, runtime=runtime, out=out, **held)
    assert sorted(out.iterdir()) == before


def test_a_finished_game_resumes_to_what_it_was(plain):
    assert backfire.resume(plain.folder).result == plain.result


class Stop(backfire.Callback):
    def on_event(self, event):
        if event.phase == "scoring":
            raise KeyboardInterrupt


def test_a_game_that_was_cut_off_goes_on_to_the_same_result(plain, out):
    with pytest.raises(KeyboardInterrupt) as stopped:
        backfire.play(TINY, seed=3, out=out, callbacks=[Stop()])
    again = backfire.resume(str(stopped.value))
    assert [(row.score, row.value) for row in again.scores] == [
        (row.score, row.value) for row in plain.scores
    ]
    assert len(again.scores) > 5
    assert again.verdict == plain.verdict


def test_a_game_with_objects_is_not_resumed_without_them(out):
    with pytest.raises(KeyboardInterrupt) as stopped:
        backfire.play(TINY, seed=3, out=out, model=Net, callbacks=[Stop()])
    with pytest.raises((ScenarioError, backfire.PlayError)):
        backfire.resume(str(stopped.value))
