"""The page on adding methods has the one table of families, and it is true."""

import importlib
import re
from pathlib import Path

import pytest

from learning.families.table import FAMILIES, OLD_GROUPS, TOOLS

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text()
ROWS = {
    family: (folder, base)
    for family, folder, base in re.findall(
        r"^\| .+? \| `(\w+)` \| `([\w/]+)/` \| `([\w.]+)` \|$", PAGE, re.M
    )
}


def test_every_family_is_in_the_table_and_no_other():
    assert ROWS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_and_base_class_are_right(family):
    folder, base = ROWS[family]
    assert folder.replace("/", ".") == FAMILIES[family]
    module, _, name = base.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_old_groups_are_told():
    told = PAGE[PAGE.index("Groups of before") :]
    assert set(re.findall(r"`backfire\.(\w+)`", told)) == OLD_GROUPS.keys()


def test_the_groups_of_tools_have_a_table_of_their_own():
    rows = dict(re.findall(r"^\| .+? \| `backfire\.(\w+)` \| `([\w.]+)` \|$", PAGE, re.M))
    assert rows == TOOLS
    for base in TOOLS.values():
        module, _, name = base.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type)
