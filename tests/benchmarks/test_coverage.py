"""Intervals over seeds hold the true mean as often as asked for, and the docs say how often."""

from pathlib import Path

import pytest
from scipy import stats

from backfire.evidence.estimates import FALSE_HEAPS
from benchmarks.coverage import CASES, SEEDS, Found, measured, run

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
ASKED = {name: case for name, case in CASES.items() if case.wanted is not None}
SAMPLES = 4000
# A cell of the page is of 20,000 samples, one of a test of 4,000: five errors of their difference.
APART = 5 * (1 / 20_000 + 1 / SAMPLES) ** 0.5


def most_missed(wanted):
    """Return the share that a true coverage of `wanted` stays above but once in 100,000 runs."""
    return stats.binom.ppf(1e-5, SAMPLES, wanted) / SAMPLES


@pytest.mark.parametrize("name", ASKED)
def test_intervals_hold_the_mean_as_often_as_asked_for(name):
    case = ASKED[name]
    for seeds in (3, 5, 10, 20):
        found = measured(case, seeds, SAMPLES, key=1)
        assert found.covered >= most_missed(case.wanted), seeds
        assert found.heaps <= stats.binom.ppf(1 - 1e-5, SAMPLES, FALSE_HEAPS) / SAMPLES, seeds


def page_cells():
    """Return the page's numbers, by scores, what is measured, and number of seeds."""
    table = PAGE.read_text().split("<!-- python -m benchmarks coverage -->")[1]
    lines = [line.strip("| ").split(" | ") for line in table.split("<!-- end -->")[0].splitlines()]
    head, _, *rows = [line for line in lines if len(line) > 3]
    assert head[3:] == [f"n = {seeds}" for seeds in SEEDS]
    return {
        (row[0], row[1], seeds): cell
        for row in rows
        for seeds, cell in zip(SEEDS, row[3:], strict=True)
    }


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_page_says_what_the_benchmark_finds(seeds):
    cells = page_cells()
    for name, case in CASES.items():
        found = measured(case, seeds, SAMPLES, key=2)
        for what, value in (
            ("interval holds the mean", found.covered),
            ("called two heaps", found.heaps),
        ):
            shown = float(cells[name, what, seeds]) / 100
            error = APART * max(shown * (1 - shown), 1e-3) ** 0.5
            assert value == pytest.approx(shown, abs=error + 5e-4), (name, what)
        shown = float(cells[name, "its width, points", seeds])
        assert 100 * found.width == pytest.approx(shown, rel=0.08), name


def test_the_page_has_every_line_of_the_benchmark():
    lines = run(quick=True)["rows"]
    assert {(line["scores"], line["what"]) for line in lines} == {key[:2] for key in page_cells()}


def test_what_has_no_interval_is_counted_apart():
    class Same:
        bounds, mean = (0.0, 1.0), 0.5

        @staticmethod
        def draw(generator, shape):
            values = generator.random(shape) * 0.01 + 0.5
            values[: shape[0] // 4] = 0.5
            values[shape[0] // 4 : shape[0] // 2, 0] = 0.0
            return values

    found = measured(Same, 5, 400)
    assert isinstance(found, Found)
    assert (found.equal, found.heaps) == (0.25, 0.25)
    assert found.covered < 0.5  # the mean of what is left is 0.505
