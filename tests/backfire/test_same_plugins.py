"""A game goes on with the code with which it began, or not at all."""

from __future__ import annotations

import pytest

import backfire
from backfire.playing import PlayError, _need_same_plugins
from server.store.reading import PLUGINS

BEGAN = {
    "method": "stranger.corner.Corner",
    "distribution": "one",
    "version": "1.2",
    "entry_point": "backfire.trigger:corner",
    "code": "0" * 64,
}


class Played:
    """A run folder, and a scenario, of which only this is asked."""

    def __init__(self, *, recorded=None, used=()):
        self._recorded, self._used = recorded, list(used)

    def environment(self):
        return {} if self._recorded is None else {PLUGINS: self._recorded}

    def plugins(self):
        return self._used


@pytest.mark.parametrize(
    "changed", [{"code": "1" * 64}, {"version": "1.3"}, {"distribution": "two"}, {"code": None}]
)
def test_another_version_of_a_plug_in_is_refused_by_its_name(changed):
    now = Played(used=[BEGAN | changed])
    with pytest.raises(PlayError, match=r"^expected stranger\.corner\.Corner as it was when"):
        _need_same_plugins(now, Played(recorded=[BEGAN]))


def test_the_same_plug_ins_and_none_at_all_are_fine():
    _need_same_plugins(Played(used=[BEGAN]), Played(recorded=[BEGAN]))
    _need_same_plugins(Played(), Played(recorded=[]))
    _need_same_plugins(Played(used=[BEGAN]), Played())  # ended before it could say what it was


def test_a_plug_in_that_the_run_did_not_begin_with_is_refused():
    with pytest.raises(backfire.PlayError, match=r"or play the scenario anew$"):
        _need_same_plugins(Played(used=[BEGAN]), Played(recorded=[]))
