"""The sweeps of S3 say what the paper prints, and play it at its size.

The tables stand here once more as the paper prints them: damage in points.
"""

import pytest

from scenarios.loader import load_sweep
from small_games import ROOT

FOLDER = ROOT / "scenarios" / "papers" / "s3"
NETS = ("LR", "NN", "CNN")
FULL = ("table2", "table4_to_8", "table9", "table10_11", "figure4", "backfire_availability")
DIFFERENT_FORM = {"tgda_pixels": "tgda", "network": "default"}

TABLE2 = {"flip": "1.52 0.05 0.01", "back_gradient": "2.53 0.37 0.09", "tgda": "2.79 1.50 1.11"}
TABLE4_TO_8 = {
    "default": "2.79 1.50 1.11",
    "defender_leads": "2.56 1.06 0.47",
    "zero_sum": "0.02 -0.03 -0.42",
    "network_raw": "0.26 0.57 0.41",
    "m1_n0": "0.05 0.02",
    "m1_n1": "2.38 1.01",
    "m20_n1": "3.06 1.71",
    "m20_n20": "2.57 1.19",
    "cold": "2.41 1.27 0.80",
}
TABLE9 = {"LR": "2.79 0.12 0.27", "NN": "0.13 1.50 0.62", "CNN": "3.22 1.47 1.11"}
TABLE10_11 = {
    "undefended": "2.79 1.50 1.11",
    "loss": "2.56 1.49 1.104",
    "influence": "2.45 1.48 1.10",
    "sever": "2.13 1.32 0.98",
    "maxup": "2.77 1.50 1.11",
}
TABLE3_12 = {
    "flip": "0.45 0.16",
    "meta_poison": "1.13 2.05",
    "unlearnable": "0.44 0.19",
    "tgda": "4.29 5.54",
}
TABLE13 = {"unlearnable": "94.38 93.10 91.90 86.85 19.93", "tgda": "93.22 92.80 91.85 85.77 16.65"}
PRINTED = {
    "table2": ("attack", TABLE2),
    "table4_to_8": ("variant", TABLE4_TO_8),
    "table9": ("surrogate", TABLE9),
    "table10_11": ("defender", TABLE10_11),
}


def rows(table):
    """The table as (row, model): damage in points."""
    return {
        (row, net): float(value)
        for row, values in table.items()
        for net, value in zip(NETS, values.split(), strict=False)
    }


def figures(name, axis):
    """What the file says of the paper, as `rows` does."""
    found = {}
    for figure in load_sweep(FOLDER / f"{name}.yaml").published.figures:
        row = figure.defender if axis == "defender" else figure.at[axis]
        found[DIFFERENT_FORM.get(row, row), figure.at["model"]] = round(100 * figure.value, 4)
    return found


@pytest.mark.parametrize("name", PRINTED)
def test_figures_are_those_that_the_paper_prints(name):
    axis, table = PRINTED[name]
    assert figures(name, axis) == rows(table)


@pytest.mark.parametrize("name", PRINTED)
def test_a_twin_has_no_figure_that_the_paper_does_not_print(name):
    axis, table = PRINTED[name]
    told = figures(f"{name}_small", axis)
    assert told
    assert told.items() <= rows(table).items()


def cifar10(name):
    """Damage in points by attack and model, of Tables 3 and 12."""
    return {
        (DIFFERENT_FORM.get(cell.at["attack"], cell.at["attack"]), cell.at.get("model", "CNN")): (
            round(100 * cell.value, 4)
        )
        for cell in load_sweep(FOLDER / f"{name}.yaml").published.figures
    }


def test_cifar10_figures_are_those_that_the_paper_prints():
    printed = {
        (attack, net): float(value)
        for attack, values in TABLE3_12.items()
        for net, value in zip(("CNN", "ResNet18"), values.split(), strict=True)
    }
    assert cifar10("table3_12") == printed
    assert cifar10("table3_12_small") == {at: v for at, v in printed.items() if at[1] == "CNN"}


@pytest.mark.parametrize("name", ["table13", "table13_small"])
def test_shares_of_unlearnable_rows_have_the_accuracies_that_the_paper_prints(name):
    told = load_sweep(FOLDER / f"{name}.yaml").published.figures
    assert {(f.at["attack"], f.at["share"]): (f.score, round(100 * f.value, 2)) for f in told} == {
        (attack, share): ("clean_accuracy", float(value))
        for attack, values in TABLE13.items()
        for share, value in zip((0.2, 0.4, 0.6, 0.8, 1.0), values.split(), strict=True)
    }


@pytest.mark.parametrize("name", FULL)
def test_full_size_trains_as_the_paper_does(name):
    for cell in load_sweep(FOLDER / f"{name}.yaml").cells:
        game = cell.scenario
        assert (game.data.kind, game.data.train_rows) == ("npz", None)
        assert (game.training.epochs, game.training.batch_size) == (100, 1000)
        assert (game.training.optimizer.lr, game.training.optimizer.momentum) == (0.1, 0.0)


@pytest.mark.parametrize("name", ["table2", "table4_to_8", "table9", "table10_11", "figure4"])
def test_networks_of_full_size_move_as_often_as_in_the_paper(name):
    attacks = [
        group.behaviour
        for cell in load_sweep(FOLDER / f"{name}.yaml").cells
        for group in cell.scenario.agents
        if group.behaviour.kind == "total_gradient" and group.behaviour.form == "autoencoder"
    ]
    assert attacks
    assert {(attack.rounds, attack.step, attack.decay) for attack in attacks} == {
        (12_060, 0.01, "none")
    }
