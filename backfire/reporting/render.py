"""Renders the report of a finished run.

The run folder is all that is read, and none of it is trusted: every file was checked before, every
name is escaped by the template, and the page's own policy forbids scripts and anything from
elsewhere.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backfire.reporting import detection, figures, gallery, tables, text
from backfire.reporting.charts import intervals
from backfire.reporting.charts.heatmap import class_name, scale_bar
from backfire.reporting.damage import damage_figures, damaging_groups
from backfire.reporting.origins import MAX_ROWS, ORIGINS, parameters
from backfire.reporting.side_by_side import side_by_side
from scenarios.families import PYTHON
from server.referee.findings import is_void
from server.referee.results import Difference, GameResult, Quantity, QuantitySummary, Summary
from server.store.reading import PLUGINS
from server.store.run_folder import RunFolder

HERE = Path(__file__).parent
SHOWN_SENTENCES = 12
MAX_SENTENCES = 300
MAX_QUARANTINED = 200
MAX_DEFINITIONS = 100


def render(folder: Path) -> Path:
    """Write `report.html` into a finished run folder; the same folder gives the same bytes.

    Returns:
        The path of the report.

    Raises:
        RunFolderError: If the folder holds no finished run, was damaged, or cannot be written
            to; one line.
    """
    run = RunFolder.open(folder)
    page = templates().get_template("template.html.j2").render(_context(run))
    return run.write_report(page.encode("utf-8", "replace"))


def templates() -> Environment:
    """Return the templates of the reports, with the words that they use."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "plain": text.plain,
        "sentence": text.sentence,
        "clauses": text.clauses,
        "aside": text.aside,
        "layout": text.layout,
        "spread": text.spread,
        "number": text.number,
        "percent": text.percent,
        "points": text.points,
        "interval": text.interval,
        "gap_interval": text.gap_interval,
        "counted": text.counted,
        "many": text.many,
    }
    made.tests["void"] = is_void
    made.tests["difference"] = lambda value: isinstance(value, Difference)
    made.tests["quantity"] = lambda value: isinstance(value, Quantity)
    made.tests["over_agents"] = lambda value: isinstance(value, Summary)
    made.tests["amounts"] = lambda value: isinstance(value, QuantitySummary)
    return made


def _context(run: RunFolder) -> dict[str, Any]:
    result = run.result()
    return {
        "result": result,
        # Our own file, not foreign text.
        "style": Markup((HERE / "style.css").read_text("utf-8")),  # noqa: S704
        "malicious": sum(agent.malicious for agent in result.roster),
        "defenders_played": len({_title(name, result) for name in result.defenders}),
        "told": result.verdict[1 : 1 + SHOWN_SENTENCES],
        "told_more": result.verdict[1 + SHOWN_SENTENCES : MAX_SENTENCES],
        "definitions": dict(list(result.definitions.items())[:MAX_DEFINITIONS]),
        "quarantined": result.quarantined[:MAX_QUARANTINED],
        "key": intervals.key,
        "scale_bar": scale_bar,
        "dots": figures.MAX_DOTS,
        **_controls(result),
        **_sections(result),
        **_gallery(run, result),
        "parameters": parameters(run.scenario()),
        "max_parameters": MAX_ROWS,
        "origins": ORIGINS,
        "environment": _flat(run.environment()),
        "replay": _replay(run),
    }


def _replay(run: RunFolder) -> str:
    """Return the command that plays the game again, or why there is none."""
    objects = _from_python(run)
    if objects:
        names = text.plain(", ".join(objects), 300)
        return f"It cannot be replayed from a file: it holds objects from Python ({names})."
    return f"backfire run {shlex.quote(text.plain(run.path.resolve().name))}/scenario.yaml"


def _from_python(run: RunFolder) -> list[str]:
    """Return the objects of a game that no file and no installed package holds."""
    scenario, plugins = run.scenario(), run.environment().get(PLUGINS, [])
    blocks = [scenario.get(name, {}) for name in ("model", "data")]
    given = [str(block.get("of")) for block in blocks if block.get("kind") == PYTHON]
    return given + [str(one.get("method")) for one in plugins if not one.get("entry_point")]


def _title(defender: str, result: GameResult) -> str:
    """Return what the scenario calls a defender."""
    part = result.part_of(defender)
    return defender if part is None else part.defenders[defender]


def _controls(result: GameResult) -> dict[str, bool]:
    """Return which control games were played, so that legends name no others."""
    groups = [group for d in result.defenders.values() for group in d.groups.values()]
    return {
        "any_part": any(group.asr_part is not None for group in groups),
        "any_alone": any(group.asr_alone is not None for group in groups),
        "any_untrained": any(group.asr_untrained is not None for group in groups),
        "any_free": any(
            d.clean_accuracy_attacker_free is not None for d in result.defenders.values()
        ),
    }


def _sections(result: GameResult) -> dict[str, Any]:
    colours = tables.palette(result)
    rows = tables.score_rows(result, colours)
    return {
        "players": tables.groups_of_agents(result, colours),
        "defenders": rows,
        "legend": tables.legend(rows),
        "games": side_by_side(result, colours),
        "overview": figures.overview(result, colours),
        "damages": damage_figures(result, colours),
        "damaging": damaging_groups(result),
        "accuracies": figures.accuracies(result),
        "agent_figures": figures.agent_figures(result, colours),
        "agent_tables": [
            tables.agent_table(name, scores, result)
            for name, scores in list(result.defenders.items())[: figures.MAX_PANELS]
        ],
        "asked": tables.asked_rows(result),
        "cross": figures.cross_figures(result),
        "removals": figures.removal_figures(result),
        "curves": figures.curve_figures(result),
        "rounds": figures.round_figures(result, colours),
        "detections": detection.rows(result),
        "detection_cards": detection.cards(result, colours),
        "round_notes": detection.notes(result),
    }


def _gallery(run: RunFolder, result: GameResult) -> dict[str, Any]:
    records = {agent.name: agent for agent in result.roster}
    shown = gallery.exhibits(run.gallery(), list(records), result.class_names)
    targets = {
        exhibit.agent: class_name(records[exhibit.agent].target, result.class_names)
        for exhibit in shown
    }
    return {"exhibits": shown, "records": records, "exhibit_targets": targets}


def _flat(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the surroundings as lines, nested ones as ``packages: torch``."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [
                (f"{text.plain(key)}: {text.plain(k)}", text.plain(v)) for k, v in value.items()
            ]
        elif isinstance(value, list):
            command = shlex.join(str(item) for item in value)
            lines.append((text.plain(key), text.plain(command, 400)))
        elif value is not None:
            lines.append((text.plain(key), text.plain(value, 200)))
    return lines[:200]
