"""The scenarios of S0: they play what the paper says, and a cell of each twin can be played."""

import json
from pathlib import Path

import numpy as np
import pytest

from backfire.evidence.payoffs.zero_sum import pure_equilibria
from backfire.playing import play
from clients.agents import Agents, deal_scenario
from clients.data_attacks.base import AgentContext
from learning.data.partitioning import poison_count, reference_share
from scenarios.loader import load_sweep, parse
from scenarios.sweep.published import problems

FOLDER = Path(__file__).parents[2] / "scenarios" / "papers" / "s0"
FILES = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
FULL = [name for name in FILES if not name.endswith(("_small", "_mnist"))]
TWINS = [name for name in FILES if name not in FULL]

# What Table 5 prints: V_d, and the number of poisoned rows by poison rate.
ESCALATED = {0.0: 0, 0.2: 60, 0.4: 120, 0.6: 180, 0.8: 240, 1.0: 300}
TABLE_5 = {
    "e1": (0.1, {0.1: 5, 0.2: 11, 0.4: 22, 0.8: 44, 1.0: 54}),
    "e2_table1": (0.2, {0.55: 264}),
    "e2_table2": (0.2, {0.55: 264}),
    "e4_table3": (0.5, ESCALATED),
    "e4_table4": (0.5, ESCALATED),
    "e4_table6": (0.5, ESCALATED),
    "e4_figure6_labels": (0.5, ESCALATED),
    "e4_figure6_escalation": (0.5, ESCALATED),
    "e5": (0.8, {0.55: 66}),
}
ALLOCATED = ("e4_table3", "e4_table4", "e4_table6")
# Rows of the data sets as they are published, test rows (and SVHN's extra ones) included.
PUBLISHED = {"cifar10": 60_000, "mnist": 70_000, "svhn": 630_420, "stl10": 13_000}


@pytest.fixture(scope="module")
def sweeps():
    """Each file is read once: a full one has hundreds of cells to validate."""
    return {name: load_sweep(file) for name, file in FILES.items()}


def at(sweep, **place):
    """Return the first cell at a place."""
    return next(c.scenario for c in sweep.cells if all(c.at[k] == v for k, v in place.items()))


def test_every_full_file_stands_in_table_5():
    assert set(TABLE_5) == set(FULL)


@pytest.mark.parametrize("name", FULL)
def test_full_files_have_the_configuration_of_table_5(sweeps, name):
    share, _ = TABLE_5[name]
    scenario = sweeps[name].cells[0].scenario
    assert scenario.defender_share == share
    assert scenario.run_time_share == 0.2
    training = scenario.training
    assert (training.batch_size, training.validation_share) == (128, 0.2)
    assert (training.optimizer.lr, training.optimizer.momentum) == (0.001, 0.9)
    assert training.early_stopping is not None


def dealt(scenario, tmp_path, **changed):
    """Return a scenario's agents, dealt as many rows as its data set has, each of four pixels."""
    source = scenario.data
    rows = PUBLISHED[source.kind]
    file = tmp_path / f"{source.kind}.npz"
    if not file.exists():
        labels = np.arange(rows) % 10
        np.savez(file, x_train=np.zeros((rows, 2, 2), np.uint8), y_train=labels)
    data = {"kind": "npz", "path": str(file), "test_share": source.test_share, "merge": True}
    plain = scenario.resolved() | {"data": data, "model": {"kind": "softmax"}}
    for agent in plain["agents"]:
        agent["behaviour"] |= changed
        agent["behaviour"]["trigger"]["epsilon"] = 1.0  # so that no poisoned row stays as it was
    played = parse(json.dumps(plain), "cell.yaml")
    return Agents(played, deal_scenario(played))


def poisoned(agents):
    """Return how many rows the first agent poisons, and how many it contributes."""
    x = agents.play(agents.names[0])[1].poisoned
    return int(x.sum()), len(x)


@pytest.mark.parametrize("name", FULL)
def test_a_played_cell_poisons_as_many_rows_as_table_5_prints(sweeps, name, tmp_path):
    """M3: what is asked is the dealt cell; a constant in the test's place agrees with itself."""
    scenario = sweeps[name].cells[0].scenario
    agents = {rate: dealt(scenario, tmp_path, poison_rate=rate) for rate in TABLE_5[name][1]}
    for rate, printed in TABLE_5[name][1].items():
        count, contributed = poisoned(agents[rate])
        # E1 prints 44 where 43.2 is meant, and no attacker poisons what it keeps for run time.
        near = 1 if (name, rate) == ("e1", 0.8) else 0
        assert abs(count - min(printed, contributed)) <= near


@pytest.mark.parametrize(
    ("data", "printed"), [("mnist", 264), ("svhn", 2774), ("cifar10", 264), ("stl10", 53)]
)
def test_each_data_set_of_table_1_keeps_the_printed_poison_rate(sweeps, data, printed, tmp_path):
    """0.0044 of the rows that A.2.3 names; 264 is that of 60,000."""
    scenario = at(sweeps["e2_table1"], data=data, attackers=100, budget="constant")
    assert poisoned(dealt(scenario, tmp_path))[0] == printed


@pytest.mark.parametrize("name", ALLOCATED)
@pytest.mark.parametrize(("allocation", "printed"), [("table5", 165), ("text", 297)])
def test_tables_3_and_4_are_played_under_both_of_s0s_allocations(
    sweeps, name, allocation, printed, tmp_path
):
    """M2: with V_d = 0.1 p = 0.55 is the real poison rate of 0.005 that every row prints."""
    scenario = at(sweeps[name], allocation=allocation, draw="per_agent")
    agents = dealt(scenario, tmp_path)
    assert poisoned(agents)[0] == printed
    rate = printed / 60_000
    assert (round(rate, 3) == 0.005) == (allocation == "text")


@pytest.mark.parametrize("name", [t for t in TWINS if t.startswith(ALLOCATED)])
def test_twins_of_e4_play_both_allocations(sweeps, name):
    shares = {cell.at["allocation"]: cell.scenario.defender_share for cell in sweeps[name].cells}
    assert shares == {"table5": 0.5, "text": 0.1}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_plays_the_papers_attack_on_other_data(sweeps, name):
    full, twin = sweeps[next(full for full in FULL if name.startswith(full))], sweeps[name]
    one, other = full.cells[0].scenario, twin.cells[0].scenario
    assert other.defender_share == one.defender_share
    assert other.run_time_share == one.run_time_share
    assert list(other.defenders) == list(one.defenders)
    theirs = {cell.scenario.agents[0].behaviour.trigger for cell in full.cells}
    assert {cell.scenario.agents[0].behaviour.trigger for cell in twin.cells} <= theirs
    assert twin.published.comparable.startswith("no: ")
    assert full.published.is_comparable
    assert len(twin.spec.all_seeds()) >= 5


@pytest.mark.parametrize("name", list(FILES))
def test_draws_and_scores_are_read_in_every_file(sweeps, name):
    sweep = sweeps[name]
    assert {"per_agent", "per_phase"} <= {cell.at["draw"] for cell in sweep.cells}
    assert all(cell.scenario.referee.alone for cell in sweep.cells)
    axes = {axis: spec.coordinates for axis, spec in sweep.spec.axes.items()}
    scenario = sweep.cells[0].scenario
    groups = [group.name for group in scenario.agents]
    cells = [cell.at for cell in sweep.cells]
    assert problems(sweep.published, axes, list(scenario.defenders), groups, cells) == []
    assert sweep.published.claims


def test_label_overlap_is_the_papers_agent_by_agent(sweeps):
    def labels(overlap, count):
        target = (
            at(sweeps["e4_table3"], overlap=overlap, attackers=count).agents[0].behaviour.target
        )
        return [target.single(AgentContext("a", "a", k, count, 0, 10)) for k in range(count)]

    assert labels("0", 5) == [0, 2, 4, 6, 8]
    assert labels("40", 5) == [2, 4, 4, 6, 8]
    assert labels("100", 5) == [4] * 5
    assert sorted(labels("0", 100)) == sorted([0, 2, 4, 6, 8] * 20)
    counts = np.bincount(labels("40", 100), minlength=10)
    assert counts.tolist() == [0, 0, 20, 0, 40, 0, 20, 0, 20, 0]


def test_table_6_is_made_of_means_of_tables_3_and_4(sweeps):
    """The text's 27.4 and Table 6's 13.7, 40.3 and 12.2 follow from the figures of the file."""
    value = {
        (f.at["triggers"], f.at["overlap"], f.defender): 100 * f.value
        for f in sweeps["e4_table6"].published.figures
        if f.score == "asr_all"
    }
    defended = [v for (_, _, defender), v in value.items() if defender == "defended"]
    assert len(defended) == 6
    assert np.mean(defended) == pytest.approx(13.7, abs=0.1)
    assert value["random", "100", "defended"] == pytest.approx(27.4, abs=0.05)
    for kind, printed in (("random", 40.3), ("orthogonal", 12.2)):
        own = [v for (k, _, d), v in value.items() if k == kind and d == "undefended"]
        assert np.mean(own) == pytest.approx(printed, abs=0.8)  # it does not print from what


def test_the_equilibrium_of_the_papers_own_figures_is_not_the_one_that_it_names(sweeps):
    """Kinds of triggers and overlaps against defences: 27.4, where Table 6's rows give 20.3."""
    value = {
        (f.at["triggers"], f.at["overlap"], f.defender): 100 * f.value
        for f in sweeps["e4_table6"].published.figures
        if f.score == "asr_all"
    }
    rows = list(dict.fromkeys(key[:2] for key in value))
    columns = ["undefended", "defended"]
    matrix = np.array([[value[(*row, column)] for column in columns] for row in rows])
    (equilibrium,) = pure_equilibria(matrix)
    assert rows[equilibrium[0]] == ("random", "100")
    assert columns[equilibrium[1]] == "defended"
    assert matrix[equilibrium] == pytest.approx(27.4, abs=0.05)
    assert not (matrix[:, 1] <= matrix[:, 0]).all()  # to defend is not dominant


def distances(sweep):
    """Return what a file prints of the triggers' cosine distances: epsilon, score, value."""
    scores = ("trigger_shape_distance", "trigger_shape_colour_distance")
    return [
        (f.at["epsilon"], f.score, f.value) for f in sweep.published.figures if f.score in scores
    ]


def test_printed_distances_of_random_triggers_are_the_expected_ones(sweeps):
    """E[1 - cos] is 1 - epsilon for the shape and 1 - 3/4 epsilon for shape and colour."""
    printed = distances(sweeps["e4_table3"])
    assert len(printed) == 6
    for epsilon, score, value in printed:
        expected = 1 - epsilon * (1 if score == "trigger_shape_distance" else 0.75)
        assert value == pytest.approx(expected, abs=0.03)


def test_printed_distances_of_orthogonal_triggers_are_near_one(sweeps):
    assert all(value > 0.9 for _, _, value in distances(sweeps["e4_table4"]))


@pytest.mark.parametrize("name", TWINS)
def test_a_cell_of_each_twin_can_be_played(tmp_path, name):
    small = ["training.epochs=1", "data={kind: digits, test_share: 0.5}", "model={kind: softmax}"]
    if "table2" in name:
        small.pop()  # the model is an axis
    sweep = load_sweep(FILES[name], small)
    scenario = sweep.cells[len(sweep.cells) // 2].scenario
    result = play(scenario, out=tmp_path).result
    for scores in result.defenders.values():
        assert scores.malicious.asr_all.mean is not None
    assert all(record.trigger_distance is not None for record in result.roster)
    assert not result.quarantined


@pytest.mark.parametrize("rate", [0.1, 0.4])
@pytest.mark.parametrize("count", [1, 20])
def test_played_rows_are_the_schemas_counts(sweeps, rate, count):
    place = {"attackers": count, "rate": rate, "epsilon": 0.55, "budget": "constant"}
    scenario = at(sweeps["e1_small"], **place)
    dealt = deal_scenario(scenario)
    agents = Agents(scenario, dealt)
    wanted = poison_count(rate, reference_share(len(dealt.y), 0.1, 20))
    for name in agents.names[:3]:
        poisoned = agents.play(name)[1].poisoned
        assert poisoned.sum() == wanted
