"""The scenarios of S0: they play what the paper says, and a cell of each twin can be played."""

from pathlib import Path

import numpy as np
import pytest

from backfire.analysis.zero_sum import pure_equilibria
from backfire.play import play
from clients.agents import Agents, deal_scenario
from clients.behaviours.base import Seat
from learning.data.deal import poison_count, reference_share
from scenarios.loader import load_sweep
from scenarios.published import problems

FOLDER = Path(__file__).parents[2] / "scenarios" / "papers" / "s0"
FILES = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
FULL = [name for name in FILES if not name.endswith(("_small", "_mnist"))]
TWINS = [name for name in FILES if name not in FULL]
ROWS = 60_000  # of CIFAR-10's two splits together (A.2.3)

# Table 5: V_d, p and the number of poisoned rows that it prints.
TABLE_5 = {
    "e1": (0.1, [0.1, 0.2, 0.4, 0.8, 1.0], [5, 11, 22, 44, 54]),
    "e2_table1": (0.2, [0.55], [264]),
    "e2_table2": (0.2, [0.55], [264]),
    "e4_table3": (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0, 60, 120, 180, 240, 300]),
    "e4_table4": (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0, 60, 120, 180, 240, 300]),
    "e4_table6": (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0, 60, 120, 180, 240, 300]),
    "e4_figure6_labels": (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0, 60, 120, 180, 240, 300]),
    "e4_figure6_escalation": (0.5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0, 60, 120, 180, 240, 300]),
    "e5": (0.8, [0.55], [66]),
}


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
def test_full_files_have_the_configuration_and_the_poison_counts_of_table_5(sweeps, name):
    share, rates, printed = TABLE_5[name]
    scenario = sweeps[name].cells[0].scenario
    assert scenario.defender_share == share
    assert scenario.run_time_share == 0.2
    training = scenario.training
    assert (training.batch_size, training.validation_share) == (128, 0.2)
    assert (training.optimizer.lr, training.optimizer.momentum) == (0.001, 0.9)
    assert training.early_stopping is not None
    reference = reference_share(ROWS, share, scenario.poison_count.reference_agents)
    counted = [poison_count(p, reference, rounding=scenario.poison_count.rounding) for p in rates]
    # E1 prints 44 where 43.2 is meant, and 5 for 5.4: no rule gives both.
    assert np.abs(np.subtract(counted, printed)).max() <= (1 if name == "e1" else 0)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_plays_the_papers_attack_on_other_data(sweeps, name):
    full, twin = sweeps[name.rsplit("_", 1)[0]], sweeps[name]
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
    assert all(cell.scenario.referee.alone == 1 for cell in sweep.cells)
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
        return [target.single(Seat("a", "a", k, count, 0, 10)) for k in range(count)]

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
