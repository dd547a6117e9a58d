"""One protocol tells the log, progress, trackers and guests of a game; guests cannot harm it."""

import json

import pytest
from stranger import install
from typer.testing import CliRunner

from backfire import playing
from backfire.callbacks import Callback, Guest, Observing, telling
from backfire.cli.main import app
from backfire.playing import PlayError, play
from backfire.trackers import need_trackers
from learning.families.offers import PLUGIN_SWITCH
from scenarios.families import faults
from server.events import Event
from small_games import ROOT, small


class Recorder(Callback):
    def __init__(self):
        self.told = []

    def on_start(self, scenario, folder):
        self.told.append(("start", scenario.name, folder.name))

    def on_event(self, event):
        self.told.append(("event", event.phase, bool(event.facts)))

    def on_end(self, result):
        self.told.append(("end", result))


class Failing(Recorder):
    def __init__(self, at):
        super().__init__()
        self._at = at

    def on_event(self, event):
        super().on_event(event)
        if event.phase == self._at:
            raise ValueError("no\nroom")


@pytest.fixture(scope="module")
def scenario():
    return small(ROOT / "scenarios" / "federated" / "quickstart.yaml")


def test_a_game_tells_its_callbacks_and_a_failing_one_is_left_out(scenario, tmp_path):
    good, bad, seen = Recorder(), Failing("round"), []
    played = play(scenario, out=tmp_path, progress=seen.append, callbacks=[bad, good])
    assert good.told[0] == ("start", scenario.name, played.folder.name)
    assert good.told[-1] == ("end", played.result)
    events = [(phase, facts) for what, phase, *rest in good.told[1:-1] for facts in rest]
    # What the log holds is what a callback was told of, in its order.
    kept = [json.loads(line)["phase"] for line in (played.folder / "rounds.jsonl").open()]
    assert [phase for phase, facts in events if facts] == kept
    assert "round" in kept
    assert [event.phase for event in seen if event.phase != "callback"] == [p for p, _ in events]
    assert [told for told in bad.told if told[1] == "round"] == [("event", "round", True)]
    assert "end" not in [what for what, *_ in bad.told]
    notes = [event.note for event in seen if event.phase == "callback"]
    assert notes == ["Failing failed and is told no more: no room"]
    alone = play(scenario, out=tmp_path / "alone")
    assert alone.result.model_copy(update={"seconds": {}}) == played.result.model_copy(
        update={"seconds": {}}
    )


def stop(event):
    raise KeyboardInterrupt


def test_a_game_that_is_cut_off_is_told_without_a_result(scenario, tmp_path):
    first, second = Recorder(), Recorder()
    told = [first, Observing(stop), second]
    with pytest.raises(KeyboardInterrupt), telling(told, scenario, tmp_path) as tell:
        tell(Event("training", 1, 2))
    start, end = ("start", scenario.name, tmp_path.name), ("end", None)
    assert first.told == [start, ("event", "training", False), end]
    assert second.told == [start, end]


def test_a_guest_that_fails_is_told_of_once():
    seen = []
    guest = Guest("mine", Failing("x"), seen.append)
    for _ in range(2):
        guest.on_event(Event("x", 0, 0))
    assert [event.note for event in seen] == ["mine failed and is told no more: no room"]


KIT = """
from pathlib import Path
from backfire.callbacks import Callback
from backfire.trackers import Tracker

class Count(Callback):
    def on_end(self, result):
        Path("counted").write_text(result.scenario)

class Lines(Tracker):
    def __init__(self, folder, title):
        folder.mkdir(parents=True)
        self.file = folder / "lines"
    def settings(self, values):
        self.file.write_text(values["name"])
    def numbers(self, values, step): ...
    def cell(self, name, at, values, step): ...
    def close(self, *, finished):
        self.file.write_text(self.file.read_text() + f" {finished}")
"""


def test_trackers_and_callbacks_of_other_packages_are_asked_for_by_name(
    scenario, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    points = {
        "backfire.callback": {"count": "stranger_tools:Count"},
        "backfire.tracker": {"lines": "stranger_tools:Lines", "gone": "stranger_tools:Gone"},
    }
    install(tmp_path / "site", "tools", {"stranger_tools.py": KIT}, points)
    monkeypatch.delenv(PLUGIN_SWITCH, raising=False)
    with pytest.raises(
        ValueError, match=r"got 'lines' \(tracker/lines of tools 1.2 is installed, but"
    ):
        need_trackers(["lines"])
    monkeypatch.setenv(PLUGIN_SWITCH, "1")
    ((offer, fault),) = faults().items()
    assert str(offer) == "tracker/gone of tools 1.2"
    with pytest.raises(
        PlayError, match=r"plug-in tracker/gone of tools 1.2 is broken: AttributeError"
    ):
        play(scenario, out=tmp_path / "runs", track=["gone"])
    found = CliRunner().invoke(app, ["run", "quickstart", "--track", "linse"])
    assert found.exit_code == 2
    played = play(scenario, out=tmp_path / "runs", track=["lines", "count"])
    assert (tmp_path / "counted").read_text() == played.result.scenario
    lines = (played.folder / "tracking" / "lines" / "lines").read_text()
    assert lines == f"{scenario.name} True"
    assert fault.startswith("AttributeError")


def test_a_game_whose_report_cannot_be_drawn_still_ends_with_its_scores(
    scenario, tmp_path, monkeypatch
):
    def broken(folder):
        raise OSError("no room for a report")

    monkeypatch.setattr(playing, "render", broken)
    told = Recorder()
    with pytest.raises(OSError, match="no room for a report"):
        play(scenario, out=tmp_path, callbacks=[told])
    (last,) = [end for what, *rest in told.told if what == "end" for end in rest]
    assert last is not None
    assert set(last.defenders) == set(scenario.defenders)


def test_a_plug_in_that_cannot_be_made_is_told_in_one_line(scenario, tmp_path, monkeypatch):
    class Asking(Callback):
        def __init__(self, where):
            self.where = where

    monkeypatch.setattr(playing, "plugin", lambda name: Asking)
    monkeypatch.setattr(playing, "need_trackers", lambda names: None)
    with pytest.raises(
        PlayError, match=r"^expected a callback mine that is made .*'where'"
    ) as told:
        play(scenario, out=tmp_path, track=["mine"])
    assert "\n" not in str(told.value)
