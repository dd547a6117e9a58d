"""docs/reliability.md: each fault has a row, each row its tests, each numbered test its row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
# The faults of games on real machines that this project promises to have tests for.
PROMISED = {*range(1, 12), 16, *range(19, 23), *range(27, 32), 33, 35, 46, 55}


def rows():
    """Return, for each row of the table, its fault numbers and the files of its tests."""
    found = []
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith(("| T |", "| --- |")):
            first, *_, last = (cell.strip() for cell in line.strip("|").split("|"))
            found.append((first, numbers_in(first), re.findall(r"`([^`]+)`", last)))
    return found


def numbers_in(cell):
    return {int(number) for number in re.findall(r"\bT(\d+)\b", cell)}


def numbers_tested(path):
    """Return the fault numbers in the names of a file's tests."""
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    return {int(number) for name in names for number in re.findall(r"(?<=_)t(\d+)(?=_|$)", name)}


def test_every_promised_fault_has_a_row():
    assert set().union(*(numbers for _, numbers, _ in rows())) >= PROMISED


@pytest.mark.parametrize(("first", "numbers", "files"), rows())
def test_the_tests_of_a_row_exist_and_carry_its_number(first, numbers, files):
    assert files, first
    tested = {file: numbers_tested(ROOT / file) for file in files}
    assert set().union(*tested.values()) >= numbers, tested
    for file, found in tested.items():
        assert found & numbers or not numbers, f"{file} has no test of {first}"


def test_every_numbered_test_is_in_its_row():
    told = {(number, file) for _, numbers, files in rows() for number in numbers for file in files}
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    made = {(n, str(p.relative_to(ROOT))) for p in paths for n in numbers_tested(p)}
    assert made <= told, sorted(made - told)
