"""`agents.parquet`: one row for each defender and agent, with every score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from server.referee.results import (
    AgentRecord,
    AgentScores,
    Difference,
    GameResult,
    Score,
    ScoreValue,
)

ROSTER = (
    ("defender", pa.string()),
    ("agent", pa.string()),
    ("group", pa.string()),
    ("behaviour", pa.string()),
    ("malicious", pa.bool_()),
    ("admitted", pa.bool_()),
    ("rows", pa.int64()),
    ("poisoned_rows", pa.int64()),
    ("target", pa.int64()),
    ("source", pa.int64()),
    ("claimed", pa.bool_()),
    ("trigger_shape_distance", pa.float64()),
    ("trigger_shape_colour_distance", pa.float64()),
)
DIFFERENCES = frozenset({"interference"})
MORE = "more"
_TYPES = {"count": pa.int64(), "unit": pa.string(), "at_least": pa.bool_()}


def agents_table(result: GameResult) -> pa.Table:
    """Return the table.

    A score `s` has the columns `s` (the share), `s_hits`, `s_count`, `s_low` and `s_high`, all
    null where the agent has no such score. Scores that the scenario asked for stand behind those
    of every game; amounts have `s`, `s_unit`, `s_at_least`, `s_low` and `s_high`. An agent that
    was not scored has a row all the same.
    Names are stored as they are, as text and nothing else; who turns the table into a spreadsheet
    should know that a name may begin with ``=``.
    """
    rows = [
        _row(defender, scores.agents.get(record.name), record)
        for defender, scores in result.defenders.items()
        for record in result.roster_of(defender)
    ]
    return pa.Table.from_pylist(rows, schema=_schema(result))


def _schema(result: GameResult) -> pa.Schema:
    names = [name for name in AgentScores.model_fields if name != MORE]
    records = {name: Difference if name in DIFFERENCES else Score for name in names}
    scores = [
        (_column(name, part), _TYPES.get(part, pa.float64()))
        for name, record in (records | _asked(result)).items()
        for part in record.model_fields
    ]
    return pa.schema([*ROSTER, *scores])


def _asked(result: GameResult) -> dict[str, type[ScoreValue]]:
    """Return the record of each score that the scenario asked for and an agent has."""
    found: dict[str, type[ScoreValue]] = {}
    for scores in result.defenders.values():
        for agent in scores.agents.values():
            found |= {name: type(value) for name, value in agent.more.items()}
    return found


def _row(defender: str, scores: AgentScores | None, record: AgentRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"defender": _text(defender), "agent": _text(record.name)}
    row |= {
        name: getattr(record, name)
        for name in (
            "malicious",
            "admitted",
            "rows",
            "poisoned_rows",
            "target",
            "source",
            "claimed",
        )
    }
    row |= {"group": _text(record.group), "behaviour": _text(record.behaviour)}
    if (apart := record.trigger_distance) is not None:
        row |= {
            "trigger_shape_distance": apart.shape,
            "trigger_shape_colour_distance": apart.shape_colour,
        }
    return row | dict(_cells(scores) if scores is not None else ())


def _cells(scores: AgentScores) -> Iterator[tuple[str, float | int | str | None]]:
    own = {name: getattr(scores, name) for name in AgentScores.model_fields if name != MORE}
    for name, score in (own | scores.more).items():
        if score is not None:
            for part in type(score).model_fields:
                yield _column(name, part), getattr(score, part)


def _column(score: str, part: str) -> str:
    return score if part == "value" else f"{score}_{part}"


def _text(text: str) -> str:
    # A lone surrogate has no UTF-8; everything else is kept as it is.
    return text.encode("utf-8", "replace").decode()
