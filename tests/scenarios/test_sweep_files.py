"""Sweep files: cells, their order, what is left out, and one line with a place for each mistake."""

import json

import pytest

from scenarios.loader import ScenarioError, load, load_any, load_sweep, parse_sweep
from scenarios.scenario import Scenario
from scenarios.sweep.spec import Sweep
from server.store.atomic import yaml_bytes

BASE = """\
name: a sweep
data: {kind: digits}
model: {kind: small_cnn}
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - name: mallory
    behaviour:
      kind: backdoor
      trigger: {kind: random_badnet, epsilon: 0.1}
      target: 3
      poison_rate: 0.5
defenders: {undefended: [], mixed: [{kind: cutmix}]}
"""
SWEEP = (
    BASE
    + """\
sweep:
  seeds: [7, 3]
  axes:
    attackers: {field: agents.mallory.count, values: [1, 2, 5]}
    trigger:
      choices:
        fixed: {}
        redrawn: {agents.mallory.behaviour.trigger.draw: per_row, training.epochs: 3}
    rate: {field: agents.mallory.behaviour.poison_rate, values: [0.1, 1/5, 0.5]}
  together: [[rate, attackers]]
  omit: [{attackers: 1, trigger: redrawn}]
  payoffs: {attacker: [trigger], score: asr}
"""
)


def refused(text, *overrides):
    with pytest.raises(ScenarioError) as caught:
        parse_sweep(text, "s", overrides)
    return list(caught.value.lines)


def test_cells_come_in_the_order_of_the_file():
    sweep = parse_sweep(SWEEP, "s")
    assert [(*cell.at.values(), cell.seed) for cell in sweep.cells] == [
        (attackers, trigger, rate, seed)
        for attackers, rate in ((1, 0.1), (2, 0.2), (5, 0.5))
        for trigger in ("fixed", "redrawn")
        if (attackers, trigger) != (1, "redrawn")
        for seed in (7, 3)
    ]
    assert all(list(cell.at) == ["attackers", "trigger", "rate"] for cell in sweep.cells)


def test_a_cell_is_the_scenario_with_its_fields_set():
    last = parse_sweep(SWEEP, "s").cells[-1]
    group = last.scenario.agents[1]
    assert (group.count, group.behaviour.poison_rate, last.scenario.seed) == (5, 0.5, 3)
    assert group.behaviour.trigger.drawn == "per_row"
    assert last.scenario.training.epochs == 3
    assert last.digest == last.scenario.digest()
    alone = SWEEP[: SWEEP.index("sweep:")] + "seed: 3\n"
    sets = (
        "agents.mallory.count=5",
        "agents.mallory.behaviour.trigger.draw=per_row",
        "training.epochs=3",
    )
    assert parse_scenario(alone, sets) == last.scenario


def parse_scenario(text, sets):
    from scenarios.loader import parse

    return parse(text, "s", sets)


def test_seeds_are_five_by_default_and_a_sweep_needs_no_axes():
    assert [cell.seed for cell in parse_sweep(BASE + "sweep: {}\n", "s").cells] == [0, 1, 2, 3, 4]


def test_what_is_written_is_read_back():
    sweep = parse_sweep(SWEEP, "s", ["defender_share=0.3"])
    again = parse_sweep(yaml_bytes(sweep.document()).decode(), "s")
    assert again.digest() == sweep.digest() != parse_sweep(SWEEP, "s").digest()
    assert again.document() == sweep.document()
    assert again.cells[0].scenario.defender_share == 0.3


def test_the_digest_is_of_what_is_played():
    sweep = parse_sweep(SWEEP, "s")
    told = parse_sweep(SWEEP, "s", ["sweep.payoffs=null", "description=other"])
    assert told.digest() == sweep.digest()
    assert parse_sweep(SWEEP, "s", ["sweep.seeds=[7]"]).digest() != sweep.digest()


def test_true_is_not_one():
    text = BASE + "sweep: {axes: {a: {field: referee.cross_asr, values: [true, false]}}}\n"
    assert [cell.at["a"] for cell in parse_sweep(text, "s").cells[::5]] == [True, False]
    assert "got 1" in refused(text, "sweep.omit=[{a: 1}]")[0]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("seeds: [7, 3]", "seeds: 0", "s:14:10 sweep.seeds: expected a whole number from 1"),
        ("seeds: [7, 3]", "seeds: [3, 3]", "s:14:10 sweep.seeds: expected 1 to 1000 seeds"),
        ("seeds: [7, 3]", "seds: 3", "sweep.seds: expected a field of sweep, got 'seds' (did you"),
        ("[1, 2, 5]", "[1, 0, 5]", "s:16:58 agents[1].count: expected a whole number from 1"),
        ("[1, 2, 5]", "[1, 2]", "s:22:14 sweep.together[0]: expected axes with as many values"),
        ("[1, 2, 5]", "[1, 1, 5]", "expected each value once"),
        ("per_row", "per_rwo", "s:20:58 agents[1].behaviour.trigger.draw: expected one of"),
        ("agents.mallory.count", "agents.malory.count", "(did you mean 'mallory'?) (axis attack"),
        ("agents.mallory.count", "seed", "expected another field than the seed"),
        ("rate: {", "value: {", "expected a name that is no column of the table, got 'value'"),
        ("[rate, attackers]", "[rate, atackers]", "(did you mean 'attackers'?)"),
        ("attackers: 1, t", "attackers: 3, t", "s:23:22 sweep.omit[0].attackers: expected a value"),
        ("attacker: [trigger]", "attacker: [n]", "sweep.payoffs.attacker[0]: expected the name"),
        ("training.epochs: 3", "agents.mallory.count: 3", "expected a field that no other axis"),
        ("defenders:", "seed: 3\ndefenders:", "s:12:1 seed: expected the seeds in sweep.seeds"),
        ("choices:", "values:", "expected"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(old, new, line):
    assert old in SWEEP
    found = refused(SWEEP.replace(old, new))
    assert line in found[0]
    assert all("\n" not in one for one in found)


def test_a_mistake_in_some_cells_names_the_first_of_them():
    found = refused(SWEEP.replace("[1, 2, 5]", "[1, 0, 5]"))
    assert found == [
        "s:16:58 agents[1].count: expected a whole number from 1 to 100000, got 0 (in 2 of 5 "
        "combinations, first attackers=0, trigger=fixed, rate=0.2)"
    ]
    assert refused(SWEEP.replace("kind: digits", "kind: digts"))[0].count("combinations") == 0


def test_overrides_come_first_and_cannot_hide_behind_an_axis():
    assert len(parse_sweep(SWEEP, "s", ["sweep.seeds=1"]).cells) == 5
    (line,) = refused(SWEEP, "agents.mallory.count=3")
    assert line.startswith("--set agents.mallory.count: expected a field that no axis sets")
    (line,) = refused(SWEEP, "sweep.axes.attackers.values=[1, 0, 5]")
    assert line.startswith("--set agents[1].count: expected a whole number from 1")


def test_too_many_cells_are_refused_before_they_are_made():
    many = json.dumps(list(range(1, 1001)))
    axes = {name: f"{{field: {path}, values: {many}}}" for name, path in PATHS.items()}
    text = ", ".join(f"{name}: {axis}" for name, axis in axes.items())
    (line,) = refused(BASE + f"sweep: {{axes: {{{text}}}}}\n")
    assert "expected at most 20000 cells before omissions, got 5000000000" in line


PATHS = {"a": "training.epochs", "b": "training.batch_size", "c": "agents.honest.count"}


def test_published_places_are_checked_against_the_axes():
    block = """\
published:
  source: S1, Table 3
  comparable: "yes"
  figures: [{at: {attackers: 4}, defender: undefended, score: asr_all, value: 0.2}]
"""
    (line,) = refused(SWEEP + block)
    assert "published.figures[0].at.attackers: expected a value of the axis" in line
    sweep = parse_sweep(SWEEP + block.replace("4", "5"), "s")
    assert sweep.published.figures[0].value == 0.2
    assert parse_sweep(yaml_bytes(sweep.document()).decode(), "s").published == sweep.published


def test_each_loader_says_what_it_wants(tmp_path):
    sweep, scenario = tmp_path / "sweep.yaml", tmp_path / "scenario.yaml"
    sweep.write_text(SWEEP)
    scenario.write_text(BASE)
    assert isinstance(load_any(sweep), Sweep)
    assert isinstance(load_any(scenario), Scenario)
    with pytest.raises(ScenarioError, match="got a sweep: play it with  backfire sweep"):
        load(sweep)
    with pytest.raises(ScenarioError, match="without: play it with  backfire run"):
        load_sweep(scenario)
    with pytest.raises(ScenarioError, match="expected combinations that are left to play"):
        load_sweep(sweep, ["sweep.omit=[{trigger: fixed}, {trigger: redrawn}]"])
