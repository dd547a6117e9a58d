"""What the report and the terminal show of detection and fallbacks."""

import io
import re

import pytest
from flwr.app import Message, RecordDict
from rich.console import Console

from backfire.cli.tables import show
from backfire.playing import play
from backfire.reporting import render
from backfire.reporting.charts.detection import Bar, round_bars, share_bars
from backfire.reporting.detection import cards, notes, rows, spans
from backfire.runtimes.local import LocalGrid
from small_games import ROOT, small

HOSTILE = "<i>krum"
PLAYERS = [
    {"name": "honest", "count": 4, "behaviour": {"kind": "benign"}},
    {
        "name": "flipper",
        "behaviour": {"kind": "benign"},
        "update": {"kind": "sign_flip", "scale": 50.0},
        "window": {"first": 2},
    },
]


class Missing(LocalGrid):
    """An agent hands over nothing in the third round."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self._cohort = None

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.message_type != "train.update":
            return reply
        late = int(str(message.content.config_records["ask"]["round"])) == 3
        gone = self._nodes[message.metadata.dst_node_id] == "honest-01" and late
        return Message(RecordDict(), reply_to=message) if gone else reply


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    game = small(
        ROOT / "scenarios" / "federated" / "quickstart.yaml",
        players=PLAYERS,
        defenders={
            "median": [{"kind": "median"}],
            HOSTILE: [{"kind": "multi_krum", "f": 1}],
            "clipped": [{"kind": "norm_clipping"}],
        },
        federation={"rounds": 4, "local_epochs": 1, "fallback": "median"},
        referee={"alone": 0, "attacker_free": False},
    )
    return play(game, out=tmp_path_factory.mktemp("shown"), wrap=Missing)


def test_each_defender_has_its_row_and_each_that_judges_a_card(played):
    table = {row.defender: row for row in rows(played.result)}
    assert set(table) == {"median", HOSTILE, "clipped"}
    assert table["median"].scores.detection is None
    assert (table[HOSTILE].rounds, table[HOSTILE].fallbacks, table[HOSTILE].skipped) == (4, 1, 0)
    assert [card.defender for card in cards(played.result, {})] == [HOSTILE, "clipped"]


def test_the_charts_add_up_to_the_counts(played):
    card = cards(played.result, {})[0]
    found = played.result.defenders[HOSTILE].detection
    for chart in (card.by_agent, card.by_round):
        told = re.findall(r"(\d+) (cheating|honest), (removed|taken)", str(chart))
        sums = {}
        for count, who, fate in told:
            sums[who, fate] = sums.get((who, fate), 0) + int(count)
        assert sums["cheating", "removed"] == found.true_positives == 2
        assert sum(n for (_, fate), n in sums.items() if fate == "removed") == found.removed
        assert sum(sums.values()) == found.updates


def test_the_page_shows_the_scores_and_the_fallback_and_escapes_names(played):
    page = render(played.folder).read_text()
    section = page[page.index('<section id="detection">') : page.index('<section id="rounds">')]
    assert "does not select" in section
    assert "only weighs" in section
    assert "of 4, 1 by the fallback" in section
    assert "2 of 2" in section
    assert HOSTILE not in page
    assert "median instead: multi_krum" in page[page.index('<section id="rounds">') :]


def test_without_rounds_there_is_nothing_to_show(played):
    pooled = played.result.model_copy(update={"rounds": {}})
    assert not rows(pooled)
    assert not cards(pooled, {})
    assert not notes(pooled)


def test_the_terminal_and_the_verdict_say_it(played):
    out = io.StringIO()
    show(played.result, None, Console(file=out, width=400))
    removed = played.result.defenders[HOSTILE].detection.removed
    line = f"over 3 rounds its rule removed {removed} of 15 updates, 2 of the 2 cheating ones"
    assert line in out.getvalue()
    assert "of 4 rounds 0 skipped, 1 aggregated by the fallback" in out.getvalue()
    assert "clipped: over 4 rounds its rule only weighed, AUROC 1.000" in out.getvalue()
    said = [s for s in played.result.verdict if "its rule removed" in s]
    assert len(said) == 1
    assert "2 of the 2 cheating ones" in said[0]


def test_notes_are_told_once_with_their_rounds(played):
    (note,) = [note for note in notes(played.result) if note.defender == HOSTILE]
    assert note.rounds == "3"


def test_rounds_are_told_as_spans():
    assert spans([1, 3, 4, 5, 9]) == "1, 3 to 5, 9"
    assert spans(range(1, 100, 2), most=2) == "1, 3 ..."


def test_many_rounds_share_a_bar_and_none_is_lost():
    one = {"caught": 1, "missed": 0, "lost": 1, "kept": 3}
    chart = str(round_bars({at: Bar(f"round {at}", one) for at in range(1, 1001)}, 1000, "all"))
    assert chart.count("<title>") <= 60
    assert sum(int(n) for n in re.findall(r"(\d+) cheating, removed", chart)) == 1000


def test_an_empty_bar_draws_nothing():
    empty = Bar("nobody", {"caught": 0, "missed": 0, "lost": 0, "kept": 0})
    assert "<rect" not in str(share_bars([empty], "none"))
