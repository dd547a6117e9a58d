"""`asr_part` where there is one: terminal, report, gallery, agents.parquet; and nowhere else."""

import io
import json
import re

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from backfire.cli import tables
from backfire.playing import play
from scenarios.loader import parse
from server.referee.results import GameResult
from small_games import TINY_DATA

GANG = {
    "name": "gang",
    "count": 2,
    "behaviour": {
        "kind": "backdoor",
        "poison_rate": 0.5,
        "target": 1,
        "trigger": {"kind": "distributed", "parts": 2},
    },
}
OTHERS = [
    {"name": "mallory", "count": 1, "behaviour": {"kind": "backdoor", "target": 2}},
    {"name": "honest", "count": 1, "behaviour": {"kind": "benign"}},
]


def game(kind, agents, tmp_path):
    federated = {"federation": {"rounds": 2, "local_epochs": 2}} if kind == "federated" else {}
    scenario = {
        "name": f"{kind}-parts",
        "game": kind,
        "data": TINY_DATA,
        "model": {"kind": "mlp"},
        "training": {"epochs": 3, "batch_size": 16},
        "agents": agents,
        "defenders": {"undefended": []},
        "referee": {"alone": 1},
        **federated,
    }
    return play(parse(json.dumps(scenario), "parts"), out=tmp_path)


def printed(result):
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(tables.scores_table(result))
    return console.file.getvalue()


@pytest.mark.parametrize("kind", ["pooled", "federated"])
def test_a_gang_is_scored_with_the_whole_and_with_each_ones_part(kind, tmp_path):
    played = game(kind, [GANG, *OTHERS], tmp_path)
    (scores,) = played.result.defenders.values()
    gang = [name for name in scores.agents if name.startswith("gang")]
    for name, own in scores.agents.items():
        assert (own.asr_part is not None) == (name in gang)
        if name in gang:
            assert own.asr_part.count == own.asr.count > 0
    part = scores.groups["gang"].asr_part
    assert part.pooled.hits == sum(scores.agents[name].asr_part.hits for name in gang)
    assert scores.groups["mallory"].asr_part is None
    cell = tables.percent(part.pooled.value)
    (line,) = [line for line in printed(played.result).splitlines() if "gang" in line]
    assert cell in line.split()
    page = played.report.read_text()
    assert "ASR part" in page
    assert "its own part of the trigger" in page
    rows = len(re.findall(r'<tr class="band"><th colspan="9"', page))
    assert rows == 1
    images = load_file(played.folder / "gallery.safetensors")
    assert {name for name in images if name.startswith("part/")} == {f"part/{n}" for n in gang}
    written = pq.read_table(played.folder / "agents.parquet").to_pydict()
    counts = dict(zip(written["agent"], written["asr_part_count"], strict=True))
    assert [name for name, count in counts.items() if count is not None] == gang


def test_without_parts_nothing_is_shown_and_old_results_are_read(tmp_path):
    played = game("pooled", OTHERS, tmp_path)
    page = played.report.read_text()
    assert "ASR part" not in page
    assert 'colspan="9"' not in page
    assert "part" not in printed(played.result).replace("pooled-parts", "")
    old = json.loads(played.result.model_dump_json())
    for scores in old["defenders"].values():
        for one in (*scores["agents"].values(), *scores["groups"].values(), scores["malicious"]):
            del one["asr_part"]
    assert GameResult.model_validate(old) == played.result
