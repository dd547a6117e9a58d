"""What a scenario asks for is set against its data before anything is played."""

import json

import numpy as np
import pytest

from learning.data.base import DataSource
from learning.data.digits import Digits
from learning.data.npz import Npz
from learning.data.partition.base import Partition
from learning.data.rows import planned_rows, rows_in_play
from learning.data.sketch import Sketch
from learning.data.synthetic import Synthetic
from learning.data.torchvision_sets import CIFAR10, MNIST, STL10, SVHN
from learning.method import discover
from learning.triggers.base import Trigger
from scenarios.families import FAMILIES
from scenarios.loader import Look, load, load_any, load_sweep, parse, parse_sweep
from scenarios.text.errors import ScenarioError

BASE = """\
name: fit
data: {kind: digits, train_rows: 200, test_rows: 50}
model: {kind: softmax}
training: {epochs: 2}
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - name: mallory
    behaviour: {kind: backdoor, poison_rate: 0.2, target: 0, trigger: {kind: patch}}
defenders:
  undefended: []
"""
TRIGGER = "agents.mallory.behaviour.trigger"
AT = "8:71 agents[1].behaviour.trigger: "


def lines(text, *overrides):
    with pytest.raises(ScenarioError) as caught:
        parse(text, "s.yaml", overrides)
    return list(caught.value.lines)


# Case trigger-outside.
@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("{kind: patch, size: 9}",
         "expected inputs of at least 9x9 pixels for this trigger, got 8x8"),
        ("{kind: patch, position: [6, 6]}",
         "trigger outside the image: expected a position from [0, 0] to [5, 5] for inputs of 8x8 "
         "pixels, got [6, 6]"),
        ("{kind: patch, margin: 6}",
         "expected size and margin of at most 8 together for inputs of 8x8 pixels, got 3 and 6"),
        ("{kind: patch, colour: [1, 0, 0]}", "expected a colour of 1 value, got 3"),
        ("{kind: distributed, size: 6}",
         "expected inputs of at least 4x14 pixels for a distributed trigger of 4 bars of 1x6 "
         "pixels with gap 2 and shift [0, 0], got 8x8"),
        ("{kind: cross, position: [0, 0]}",
         "trigger outside the image: expected a position from [1, 1] to [6, 6] for inputs of 8x8 "
         "pixels, got [0, 0]"),
    ],
)  # fmt: skip
def test_a_trigger_that_does_not_fit_is_refused_with_its_place(trigger, message):
    text = BASE.replace("{kind: patch}", trigger)
    assert lines(text) == [f"s.yaml:{AT}{message}"]
    for kind in ("federated", "both"):
        more = ["game=" + kind, "defenders={m: [{kind: mean}], u: []}"]
        assert lines(text, *more) == [f"s.yaml:{AT}{message}"]


@pytest.mark.parametrize(
    "trigger",
    ["{kind: patch, size: 8}", "{kind: patch, position: [5, 5]}", "{kind: patch, margin: 5}",
     "{kind: patch, colour: [1]}", "{kind: cross, position: [1, 1]}"],
)  # fmt: skip
def test_a_trigger_that_just_fits_is_taken(trigger):
    parse(BASE.replace("{kind: patch}", trigger), "s.yaml")


def test_every_group_every_defence_and_every_defender_is_looked_at():
    wide = "trigger: {kind: patch, size: 9}"
    text = BASE.replace(
        "defenders:",
        f"  - {{name: eve, behaviour: {{kind: clean_label, {wide}}}}}\ndefenders:\n"
        f"  a: [{{kind: agent_augmentation, {wide}}}]\n"
        f"  b: [{{kind: cutmix}}, {{kind: backdoor_adversarial_training, {wide}}}]\n"
        "  c: [{kind: poison_patches, largest: 0.1}]",
    )
    assert [line.split(" ")[1] for line in lines(text)] == [
        "agents[2].behaviour.trigger:", "defenders.a[0].trigger:", "defenders.b[1].trigger:",
        "defenders.c[0]:",
    ]  # fmt: skip


def test_a_model_that_pools_the_inputs_away_is_refused():
    (line,) = lines(BASE, "model={kind: vgg11_bn}")
    assert line.startswith("--set model: vgg11_bn takes inputs of at least 32x32 pixels, got 8x8")
    parse(BASE, "s", ["model={kind: vgg11_bn}", "data={kind: cifar10, root: x}"])


def test_where_the_shape_is_not_known_nothing_is_claimed(tmp_path):
    parse(BASE, "s", [f"{TRIGGER}.size=99", f"data={{kind: npz, path: {tmp_path}/x.npz}}"])


def test_a_sketch_is_what_loading_gives():
    for source in (
        Digits(),
        Synthetic(channels=3, height=5, width=7, classes=6, test_per_class=0),
        Synthetic(train_per_class=3, test_per_class=2),
    ):
        data, sketch = source.load(), source.sketch
        assert sketch == Sketch(data.shape, data.classes, len(data.y_train), len(data.y_test))
        assert source.look() == sketch


def test_sketches_of_published_sets():
    assert MNIST(root="x").sketch == Sketch((1, 28, 28), 10, 60_000, 10_000)
    assert CIFAR10(root="x", size=8).sketch == Sketch((3, 8, 8), 10, 50_000, 10_000)
    assert STL10(root="x").sketch == Sketch((3, 96, 96), 10, 5_000, 8_000)
    assert SVHN(root="x", extra=True).sketch.train == 604_388


@pytest.mark.parametrize(
    "fields",
    [{}, {"merge": True}, {"test_share": 0.31}, {"test_per_class": 0}, {"train_rows": 7},
     {"merge": True, "test_share": 0.9, "test_rows": 5}, {"test_per_class": 0, "train_rows": 30}],
)  # fmt: skip
def test_rows_are_planned_as_they_are_played(fields):
    source = Synthetic(**{"train_per_class": 11, "test_per_class": 3, **fields})
    data = rows_in_play(source, seed=3)
    sketch = source.sketch
    assert planned_rows(source, sketch.train, sketch.test) == (len(data.y_train), len(data.y_test))


@pytest.mark.parametrize("kind", discover(Partition, FAMILIES["partition"]).values())
def test_a_partition_never_has_enough_below_its_least(kind):
    partition = kind(**{name: 0.5 for name in ("alpha",) if name in kind.model_fields})
    for agents in (1, 3, 8):
        rows = partition.least(agents) - 1
        labels, draw = np.arange(rows, dtype=np.int64) % 2, np.random.default_rng(0)
        with pytest.raises(ValueError, match="row"):
            partition.split(labels, agents, draw)


@pytest.mark.parametrize("kind", discover(Trigger, FAMILIES["trigger"]).values())
def test_a_trigger_fits_where_it_can_be_drawn(kind):
    """No trigger of the house is refused on inputs on which it would have been played."""
    assert kind().misfit((3, 32, 32)) is None
    assert kind().misfit((1, 28, 28)) is None


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["agents.honest.count=60"],
         "s.yaml:6:3 agents: expected at least 122 rows for 61 agents, got 120 (of 200 training "
         "rows the defender holds 80): take fewer agents, a smaller defender_share or more "
         "training rows"),
        (["partition={kind: sampled, rows: 121}"],
         "s.yaml:6:3 agents: expected at least 121 rows for 3 agents, got 120 (of 200 training "
         "rows the defender holds 80): take fewer agents, a smaller defender_share or more "
         "training rows"),
        (["data.train_rows=1439"],
         "--set data.train_rows: expected at most the 1438 that there are, got 1439"),
        (["data.test_rows=360"],
         "--set data.test_rows: expected at most the 359 that there are, got 360"),
        (["defender_share=0.002", "defenders={a: [{kind: influence}]}"],
         "--set defender_share: expected a share above 0 for the influence of 'a', got 0.002 of "
         "200 rows, which is none"),
        (["defender_share=0", "game=federated", "defenders={a: [{kind: fltrust}]}"],
         "--set defender_share: expected a share above 0 for the fltrust of 'a', got 0"),
    ],
)  # fmt: skip
def test_rows_are_counted_against_agents_and_defences(overrides, line):
    assert lines(BASE, *overrides) == [line]


def test_rows_that_just_suffice_are_taken():
    parse(BASE, "s", ["agents.honest.count=59"])
    parse(BASE, "s", ["data.train_rows=1438", "data.test_rows=359"])
    parse(BASE, "s", ["defender_share=0.0025", "defenders={a: [{kind: influence}]}"])
    parse(BASE, "s", ["agents.honest.count=60", "partition={kind: sampled, rows: 120}"])
    # Private agents bring rows of their own.
    parse(BASE, "s", ["agents.honest={name: h, count: 999, behaviour: {kind: private, rows: 9}}"])


def file(tmp_path, text, name="game.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def arrays(tmp_path, side):
    path = tmp_path / "set.npz"
    x = np.zeros((40, side, side), np.uint8)
    np.savez(path, x_train=x, y_train=np.arange(40) % 4)
    return path


def told(path, *overrides, look=Look.IF_THERE):
    with pytest.raises(ScenarioError) as caught:
        load(path, overrides, look)
    return list(caught.value.lines)


def test_files_are_looked_at_where_they_are(tmp_path):
    data = arrays(tmp_path, 4)
    path = file(tmp_path, BASE.replace("{kind: digits, train_rows: 200, test_rows: 50}",
                                       json.dumps({"kind": "npz", "path": str(data)})))  # fmt: skip
    load(path)
    load(path, look=Look.MUST)
    wide = f"{TRIGGER}.size=5"
    load(path, [wide])  # not asked to look
    assert told(path, wide) == [
        f"{path}:{AT}expected inputs of at least 5x5 pixels for this trigger, got 4x4"
    ]
    assert told(path, "agents.honest.count=20")[0].startswith(f"{path}:6:3 agents: expected at ")
    data.write_bytes(b"no archive")
    assert told(path)[0].startswith(f"{path}:2:7 data: expected ")
    data.unlink()
    load(path, look=Look.IF_THERE)
    assert told(path, look=Look.MUST) == [
        f"{path}:2:7 data: expected a data set, got nothing at {data}"
    ]


def test_a_set_that_is_to_be_fetched_need_not_be_there(tmp_path):
    path = file(tmp_path, BASE)
    data = f"data={{kind: mnist, root: {tmp_path}/none, download: %s}}"
    load(path, [data % "true"], Look.MUST)
    assert told(path, data % "false", look=Look.MUST)[0].startswith("--set data: expected a data ")


SWEEP = (
    "sweep: {seeds: 2, axes: {size: {field: agents.mallory.behaviour.trigger.size, "
    "values: [3, 8, 9]}}}\n"
)


def test_every_cell_of_a_sweep_is_looked_at_before_the_first_is_played(tmp_path, monkeypatch):
    with pytest.raises(ScenarioError) as caught:
        parse_sweep(BASE + SWEEP, "s.yaml")
    (line,) = caught.value.lines
    assert "got 8x8 (in 1 of 3 combinations, first size=9)" in line
    data, looks = arrays(tmp_path, 8), []
    whole = Npz.look
    monkeypatch.setattr(Npz, "look", lambda self: looks.append(self) or whole(self))
    text = (BASE + SWEEP).replace("{kind: digits, train_rows: 200, test_rows: 50}",
                                  json.dumps({"kind": "npz", "path": str(data)}))  # fmt: skip
    path = file(tmp_path, text)
    load_sweep(path)
    for loaded in (load_sweep, load_any):
        looks.clear()
        with pytest.raises(ScenarioError, match="in 1 of 3 combinations, first size=9"):
            loaded(path, look=Look.IF_THERE)
        assert len(looks) == 1  # one data set, one look


# Blocks that no game reads.
@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("federation={rounds: 10}", "federation"),
        ("federation={rounds: 3}", "federation"),
        ("federation={}", "federation"),
        ("agents.mallory.window={first: 3}", "agents[1].window"),
    ],
)
def test_a_block_that_the_game_would_not_read_is_refused(tmp_path, override, place):
    path = file(tmp_path, BASE)
    (line,) = told(path, override)
    assert line == (
        f"--set {place}: expected game: federated, or both, for this block, which only rounds "
        "read; got pooled"
    )
    for game in ("game=federated", "game=both"):
        load(path, [override, game, "defenders={m: [{kind: mean}], u: []}"], Look.IF_THERE)


def test_a_resolved_scenario_writes_every_block_and_is_taken(tmp_path):
    path = file(tmp_path, json.dumps(parse(BASE, "s").resolved()), "game.json")
    load(path, look=Look.IF_THERE)


def test_a_sweep_over_the_game_may_have_a_block_of_one_of_them(tmp_path):
    text = BASE + "federation: {rounds: 3}\nsweep: {seeds: 1, axes: {game: {choices: {p: {}%s}}}}\n"
    federated = ", f: {game: federated, defenders: {undefended: [{kind: mean}]}}"
    load_sweep(file(tmp_path, text % federated), look=Look.IF_THERE)
    with pytest.raises(ScenarioError, match="which only rounds read"):
        load_sweep(file(tmp_path, text % ""), look=Look.IF_THERE)


def test_a_source_that_tells_nothing_is_asked_for_nothing():
    class Mute(DataSource):
        def load(self):
            raise AssertionError("expected not to be loaded")

    assert Mute().sketch == Mute().look() == Sketch()
