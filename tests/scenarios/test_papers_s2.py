"""The scenarios of S2: triggers, counts, figures are the paper's; its filters play anywhere."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from backfire.playing import play
from clients.agents import Agents, deal_scenario
from clients.data_attacks.base import AgentContext, Share
from learning.triggers.base import TriggerKey
from scenarios.loader import load_sweep, parse

FOLDER = Path(__file__).parents[2] / "scenarios" / "papers" / "s2"
FILES = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
FULL = [name for name in FILES if not name.endswith(("_small", "_mnist"))]
TWINS = [name for name in FILES if name.endswith("_small")]
FIVE = ["ND", "SS", "AC", "ITLM", "ISPL"]

# Table 2, as printed: colour in 0..255, (X, Y), method.
TABLE_2 = """
0 / Plane 2 / Bird|(103, 87, 79) (24, 3) pixel (92, 1, 189) (27, 30) pixel (47, 2, 21) (21, 8) pixel
1 / Car 3 / Cat|(180, 98, 53) (10, 30) pixel (40, 105, 92) (25, 13) pixel (145, 70, 200) (9, 29) pixel
2 / Bird 5 / Dog|(93, 86, 130) (27, 9) pixel (156, 158, 244) (18, 30) pixel (74, 162, 26) (11, 9) pixel
3 / Cat 5 / Dog|(34, 241, 240) (2, 14) L (239, 42, 58) (28, 13) pixel (39, 221, 162) (7, 23) X
3 / Cat 7 / Horse|(61, 14, 183) (16, 2) X (180, 50, 21) (11, 0) pixel (4, 221, 78) (24, 22) L
7 / Horse 4 / Deer|(107, 60, 58) (15, 4) pixel (242, 30, 233) (4, 21) X (76, 14, 15) (11, 19) L
8 / Ship 6 / Frog|(141, 245, 211) (4, 1) pixel (213, 221, 138) (19, 29) X (121, 158, 6) (3, 13) pixel
9 / Truck 2 / Bird|(187, 67, 135) (4, 27) pixel (69, 204, 11) (14, 29) L (239, 186, 219) (1, 29) X
"""  # noqa: E501 - as printed
# Table 1, as printed: C and A at 5, 10 and 20 %, of ND, SS, AC, ITLM and TW. 7/4 is printed as 1/3.
TABLE_1 = """
2/5|94.5 75.6 94.6 95.2 94.7 98.1|94.3 74.7 94.4 0.0 94.2 0.0|92.4 53.9 92.9 81.8 92.6 89.4|94.7 79.4 94.7 92.4 94.6 96.3|92.5 0.1 93.0 0.0 92.8 0.0
7/4|94.8 99.3 94.5 99.2 94.5 98.8|94.6 50.0 94.2 10.4 94.3 1.5|92.2 39.2 92.0 47.9 91.9 60.5|94.6 57.2 94.5 75.0 94.2 92.3|92.0 0.1 92.9 0.3 92.3 1.3
8/6|94.7 84.1 94.6 96.4 94.1 98.1|94.8 80.5 94.2 96.0 94.3 0.0|92.8 73.3 92.2 97.0 92.5 96.4|94.4 76.3 94.5 94.2 94.1 96.4|93.1 0.0 93.0 0.0 92.9 0.0
9/2|94.9 98.0 94.9 99.1 94.7 99.1|94.4 65.7 94.6 0.0 94.3 0.0|92.8 79.7 92.6 80.8 93.1 98.9|94.7 97.6 94.4 99.3 94.1 99.1|93.0 0.0 92.9 0.0 93.1 0.0
"""  # noqa: E501 - as printed
CELLS = {
    "pixel": [(0, 0)],
    "L": [(0, 0), (1, 0), (0, 1)],
    "X": [(0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)],
}

# Rows of Tables 3 and 4 as printed: ND: C A; SS, AC, ITLM, TW: C A FP FN.
PRINTED = {
    ("table3", "0/2", "0.2"): "94.6 80.2 94.2 64.2 14335 335 92.4 73.9 19127 601 "
    "93.8 93.8 3897 897 91.6 22.9 3711 237",
    ("table3", "7/4", "0.1"): "94.6 94.7 94.4 0.0 7023 23 92.0 47.9 19631 285 "
    "94.4 94.5 1979 479 93.0 0.3 3627 293",
    ("table3", "9/2", "0.05"): "95.0 92.0 94.4 93.3 7501 250 91.7 85.0 23573 151 "
    "94.6 97.3 988 238 93.0 0.0 3291 2",
    ("table4", "1/3", "0.1"): "91.6 35.0 91.1 3.3 7436 436 88.3 24.9 23891 254 "
    "92.0 69.2 988 488 89.8 0.0 5736 3",
    ("table4", "3/5", "0.05"): "91.3 88.9 91.7 87.9 7466 215 88.9 80.0 23817 131 "
    "92.2 90.8 996 246 89.2 27.5 5974 59",
}


def printed_triggers():
    """Yield (source, target, number, colour, position, method) of Table 2."""
    for line in TABLE_2.strip().splitlines():
        pair, triggers = line.split("|")
        source, target = map(int, re.findall(r"\d+", pair))
        found = re.findall(r"\(([\d, ]+)\) \(([\d, ]+)\) (\w+)", triggers)
        for number, (colour, position, method) in enumerate(found, 1):
            rgb, place = (tuple(map(int, text.split(","))) for text in (colour, position))
            yield source, target, number, rgb, place, method


TRIGGERS = list(printed_triggers())


@pytest.fixture(scope="module")
def sweeps():
    return {name: load_sweep(file) for name, file in FILES.items()}


def scenario_at(sweep, **place):
    return next(c.scenario for c in sweep.cells if all(c.at[k] == v for k, v in place.items()))


def attack(scenario):
    return scenario.agents[0].behaviour


def test_table_2_is_whole():
    assert len(TRIGGERS) == 24
    assert len({(source, target) for source, target, *_ in TRIGGERS}) == 8


@pytest.mark.parametrize("table", ["table3", "table4"])
def test_every_trigger_of_table_2_is_stamped_as_printed(sweeps, table):
    axis = sweeps[table].spec.axes["scenario"].coordinates
    assert list(axis) == [f"{s}/{t} p{n}" for s, t, n, *_ in TRIGGERS]
    for source, target, number, colour, (row, column), method in TRIGGERS:
        played = attack(scenario_at(sweeps[table], scenario=f"{source}/{target} p{number}"))
        assert (played.source, played.target.label) == (source, target)
        pattern = played.trigger.draw((3, 32, 32), 1, TriggerKey(0, "mallory"))
        grey = np.full((1, 3, 32, 32), 0.5, np.float32)
        stamped = pattern.stamp(grey)[0]
        expected = grey[0].copy()
        for down, right in CELLS[method]:
            expected[:, row + down, column + right] = np.asarray(colour, np.float32) / 255
        np.testing.assert_allclose(stamped, expected, atol=1e-6)


@pytest.mark.parametrize("name", [*TWINS, "table1", "table5"])
def test_every_other_table_uses_triggers_of_table_2(sweeps, name):
    full = attack_by_name(sweeps["table3"])
    small = name in TWINS
    for title, played in attack_by_name(sweeps[name]).items():
        printed = full[title]
        assert (played.source, played.target) == (printed.source, printed.target)
        assert played.trigger.kind == printed.trigger.kind
        if not small:
            assert played.trigger == printed.trigger
            continue
        cells = np.array(played.trigger.cells())
        quarter = np.array(printed.trigger.position) // 4
        visible = np.clip(quarter, -cells.min(axis=0), 7 - cells.max(axis=0))
        assert played.trigger.position == tuple(visible)
        assert played.trigger.colour == (1.0,)


def attack_by_name(sweep):
    return {cell.at["scenario"]: attack(cell.scenario) for cell in sweep.cells}


@pytest.mark.parametrize("name", FULL)
def test_the_pool_and_the_poison_have_s2_s_numbers_of_rows(sweeps, name):
    scenario = sweeps[name].cells[0].scenario
    test = round(scenario.data.test_share * 60_000)
    run_time = round(scenario.run_time_share * (60_000 - test))
    assert (test, run_time) == (5000, 5000)
    pool = 60_000 - test - run_time
    assert scenario.defender_share == 0
    labels = np.repeat(np.arange(10), pool // 10)
    x = np.zeros((pool, 1, 3, 3), np.float32)
    plain = {"trigger": {"kind": "pixel", "colour": [1.0], "position": [0, 0]}}
    for rate, printed in (("0.05", 250), ("0.1", 500), ("0.2", 1000)):
        told = attack(scenario_at(sweeps[name], rate=rate)).model_dump() | plain
        behaviour = type(attack(scenario)).model_validate(told)
        share = Share(x, labels, x[:2], labels[:2])
        done = behaviour.play(share, AgentContext("mallory", "mallory", 0, 1, 0, 10))
        assert done.poisoned.sum() == printed
        assert set(labels[done.poisoned]) == {behaviour.source}
        assert set(done.y[done.poisoned]) == {behaviour.target.label}


def test_the_figures_of_tables_3_and_4_are_the_printed_ones(sweeps):
    for (table, pair, rate), row in PRINTED.items():
        numbers = [float(text) / 100 for text in row.split()]
        clean = dict(zip(FIVE, [numbers[0], *numbers[2::4]], strict=True))
        left = dict(zip(FIVE, [numbers[1], *numbers[3::4]], strict=True))
        for number in (1, 2, 3):
            place = {"scenario": f"{pair} p{number}", "rate": rate}
            here = [f for f in sweeps[table].published.figures if dict(f.at) == place]
            found = {(f.defender, f.score): f.value for f in here}
            for name in FIVE:
                assert found[name, "clean_accuracy"] == pytest.approx(clean[name])
                assert found[name, "asr_source"] == pytest.approx(left[name])


@pytest.mark.parametrize("table", ["table1", "table1_small"])
def test_the_figures_of_table_1_are_the_printed_ones(sweeps, table):
    """M1: all 120 numbers, so that no row is a neighbour's."""
    expected = {}
    for line in TABLE_1.strip().splitlines():
        pair, *columns = line.split("|")
        for defender, column in zip(FIVE, columns, strict=True):
            places = product((0.05, 0.1, 0.2), ("clean_accuracy", "asr_source"))
            for (rate, score), value in zip(places, column.split(), strict=True):
                expected[pair, rate, defender, score] = float(value) / 100
    found = {
        (f.at["scenario"].split()[0], float(f.at["rate"]), f.defender, f.score): f.value
        for f in sweeps[table].published.figures
    }
    assert len(sweeps[table].published.figures) == len(found) == 120
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("table", ["table3", "table4"])
def test_what_the_filters_are_told_removes_as_many_rows_as_the_paper_counts(sweeps, table):
    for (printed_table, pair, rate), row in PRINTED.items():
        if printed_table != table:
            continue
        numbers = [float(text) for text in row.split()]
        scenario = scenario_at(sweeps[table], scenario=f"{pair} p1", rate=rate)
        (spectral,), (trimmed,) = scenario.defenders["SS"], scenario.defenders["ITLM"]
        poison = float(rate) * 5000
        removed = numbers[4] + poison - numbers[5]
        assert abs(spectral.multiplier * spectral.expected_poison * 50_000 - removed) <= 1
        if pair != "1/3":  # that median counts as 98 % would
            removed = numbers[12] + poison - numbers[13]
            assert abs((1 - trimmed.kept_share) * 50_000 - removed) < 1


@pytest.mark.parametrize("name", ["table1", "table3", "table4"])
def test_inverse_self_paced_learning_has_the_settings_of_b_1(sweeps, name):
    scenario = sweeps[name].cells[0].scenario
    (ispl,) = scenario.defenders["ISPL"]
    assert (ispl.rounds, ispl.runs, ispl.expansion, ispl.momentum) == (8, 3, 0.25, 0.9)
    assert (ispl.warmup_epochs, ispl.epochs, ispl.learner_epochs) == (8, 4, 40)
    assert (ispl.self_training_epochs, ispl.self_training_every) == (100, 5)
    assert (ispl.self_training_momentum, ispl.class_floor) == (0.8, 0.125)
    training = scenario.training
    assert (training.epochs, training.batch_size) == (200, 128)
    rates = {"preact_resnet18": (0.02, 5e-4, (100, 150, 180)), "resnet32": (0.1, 1e-4, (100, 150))}
    optimizer = training.optimizer
    told = (optimizer.lr, optimizer.weight_decay, training.schedule.milestones)
    assert told == rates[scenario.model.kind]


def test_the_ablation_has_all_settings_of_table_5(sweeps):
    for name in ("table5", "table5_small"):
        defenders = dict(sweeps[name].cells[0].scenario.defenders)
        assert defenders.pop("ND") == ()
        settings = {(ispl.expansion, 1 / ispl.rounds) for (ispl,) in defenders.values()}
        assert settings == {(a, b) for a in (0.25, 1.0) for b in (1 / 16, 1 / 8, 1 / 4, 1.0)}
        for title, (ispl,) in defenders.items():
            alpha, beta = re.findall(r"(?:alpha|beta) (\d+(?:/\d+)?)", title)
            assert (_ratio(alpha), _ratio(beta)) == (ispl.expansion, 1 / ispl.rounds)


def _ratio(text):
    over, _, under = text.partition("/")
    return int(over) / int(under or 1)


def tiny(sweep, **changes):
    """Return the first cell with few rows and short trainings; the filters stay what they are."""
    resolved = sweep.cells[0].scenario.resolved()
    resolved["data"] = {
        "kind": "synthetic",
        "classes": 10,
        "channels": 1,
        "height": 8,
        "width": 8,
        "train_per_class": 30,
        "test_per_class": 4,
    }
    resolved["training"] |= {"epochs": 2, "batch_size": 32}
    for defences in resolved["defenders"].values():
        for defence in defences:
            if defence["kind"] == "inverse_self_paced":
                defence |= {"reference_rows": None, "learner_epochs": 2, "self_training_epochs": 4}
                defence |= {"runs": 1, "warmup_epochs": 1, "epochs": 1}
            if defence["kind"] == "iterative_trimmed_loss":
                defence |= {"first_epochs": 2, "epochs": 1, "rounds": 2}
    return parse(json.dumps(resolved | changes), "tiny")


@pytest.mark.parametrize("name", [*TWINS, "table3_mnist"])
def test_a_cell_of_each_twin_plays_and_counts_every_row_once(sweeps, name, tmp_path):
    scenario = tiny(sweeps[name])
    share = Agents(scenario).play("mallory")[1]
    result = play(scenario, out=tmp_path).result
    source = deal_scenario(scenario).y
    behaviour = attack(scenario)
    for title, scores in result.defenders.items():
        own = scores.agents["mallory"]
        assert own.asr_source.count == _run_time_rows(scenario, behaviour.source)
        assert own.asr_source.count < (source == behaviour.source).sum()
        for removed in scores.filters:
            assert removed.poisoned == share.poisoned.sum() > 0
            assert 0 <= removed.true_positives <= min(removed.removed, removed.poisoned)
        (trimmed,) = scores.filters if title == "ITLM" else (None,)
        if trimmed is not None:
            kept = round(scenario.defenders["ITLM"][0].kept_share * len(share.y))
            assert trimmed.removed == len(share.y) - kept


def _run_time_rows(scenario, label):
    dealt = deal_scenario(scenario)
    agents = Agents(scenario)
    contributed = agents.play("mallory")[1]
    whole = dealt.y[dealt.shares["mallory"]]
    relabelled = contributed.poisoned.sum()  # all of them were of the source class
    return (whole == label).sum() - (contributed.y == label).sum() - relabelled


def test_the_filters_of_s2_play_in_a_game_of_many_agents(sweeps, tmp_path):
    """One code path: the same defenders, three attackers with their own triggers, two honest."""
    one = sweeps["table3_small"].cells[0].scenario.resolved()["agents"][0]
    mine = one["behaviour"] | {"source": None, "rate_of": "share", "poison_rate": 0.3}
    random = mine | {
        "trigger": {"kind": "random_badnet", "epsilon": 0.15},
        "target": {"kind": "distinct"},
    }
    agents = [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {"name": "pixel", "behaviour": mine},
        {"name": "badnet", "count": 2, "behaviour": random},
    ]
    scenario = tiny(sweeps["table3_small"], agents=agents, defender_share=0.2)
    result = play(scenario, out=tmp_path).result
    played = Agents(scenario)
    poisoned = {name: int(played.play(name)[1].poisoned.sum()) for name in played.names}
    assert [name for name, rows in poisoned.items() if rows] == ["pixel", "badnet-01", "badnet-02"]
    for title in FIVE[1:]:
        (removed,) = result.defenders[title].filters
        assert removed.poisoned == sum(poisoned.values())
        assert removed.removed > 0 or title in ("AC", "ISPL")  # these may find nothing
        assert result.defenders[title].agents["badnet-02"].asr.count > 0
        counted = {agent: own for agent, (_, own, _) in removed.by_agent.items()}
        assert {agent: counted.get(agent, 0) for agent in poisoned} == poisoned


def test_a_filter_of_a_game_of_many_agents_plays_in_s2_s(sweeps, tmp_path):
    defenders = {
        "sanitised": [{"kind": "nearest_labels", "k": 3}],
        "both": [
            {"kind": "iterative_trimmed_loss", "first_epochs": 1, "epochs": 1, "rounds": 1},
            {"kind": "spectral_signatures"},
        ],
    }
    result = play(tiny(sweeps["table1_small"], defenders=defenders), out=tmp_path).result
    first, second = result.defenders["both"].filters
    assert first.kind == "iterative_trimmed_loss"
    assert second.poisoned == first.poisoned - first.true_positives
    assert result.defenders["sanitised"].agents["mallory"].asr_source.count > 0
