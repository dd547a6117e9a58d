"""The leaderboard on disk: `leaderboard.html` and `leaderboard.csv`, from a folder of cards.

Cards are foreign: sizes and numbers are limited before anything is read, what is no card is told
and left out, names are escaped on the page and cannot be formulas in the table.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markupsafe import Markup

from backfire.evidence.card import CARD, SweepCard, read_card
from backfire.evidence.estimates import Estimate
from backfire.leaderboard.scatter import scatter
from backfire.leaderboard.standings import (
    EDGE,
    FLAGS,
    FREE,
    RANKED,
    REMOVED,
    Bench,
    LeaderboardRow,
    benches,
)
from backfire.leaderboard.words import nobody, reasons, trainings
from backfire.reporting.charts.intervals import key
from backfire.reporting.render import HERE, templates
from scenarios.text.quoting import listing, printable
from server.errors import RunFolderError
from server.store.atomic import write_bytes

MAX_CARDS: Final = 2000
MAX_DEPTH: Final = 4
MAX_FOLDERS: Final = 50_000
MAX_SHOWN: Final = 24
PAGE: Final = "leaderboard.html"
TABLE: Final = "leaderboard.csv"
HEAD: Final = (
    "bench", "bench_hash", "score", "rank", "defence", "defence_hash", "attack", "attack_hash",
    "worst", "value", "low", "high", "seeds", "clean_accuracy", "clean_accuracy_attacker_free",
    "honest_removed", "work", "flags", "reasons", "attack_flags", "replay",
)  # fmt: skip


@dataclass(frozen=True)
class Leaderboard:
    """What was made.

    Attributes:
        page: The HTML page.
        table: The CSV table.
        cards: Cards that count.
        refused: One line for each that does not.
        benches: The standings.
    """

    page: Path
    table: Path
    cards: int
    refused: Sequence[str]
    benches: Sequence[Bench]


def build(folder: Path, out: Path | None = None) -> Leaderboard:
    """Make the leaderboard of all cards in a folder; the same cards give the same bytes.

    Args:
        folder: Searched to a depth of four folders; links are not followed.
        out: Where the files go; by default into `folder`.

    Raises:
        RunFolderError: If there is no card, or the files cannot be written; one line.
    """
    cards, refused = _read(folder)
    if not cards:
        more = f"; {refused[0]}" if refused else ""
        raise RunFolderError(f"{folder}: expected a folder with cards of sweeps, got none{more}")
    found = benches(cards)
    out = folder if out is None else out
    page, table = out / PAGE, out / TABLE
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_bytes(page, _page(found, cards, refused).encode("utf-8", "replace"))
        write_bytes(table, _table(found).encode("utf-8", "replace"))
    except OSError as error:
        raise RunFolderError(
            f"{out}: expected a folder that can be written, got: {error.strerror or error}"
        ) from None
    return Leaderboard(page, table, len(cards), refused, found)


def _read(folder: Path) -> tuple[list[SweepCard], list[str]]:
    cards: dict[str, SweepCard] = {}
    refused = []
    for number, path in enumerate(_files(folder)):
        shown = printable(str(path.relative_to(folder)), 200)
        if number >= MAX_CARDS:
            refused.append(
                f"{shown}: more than {MAX_CARDS} cards; this one and the rest are left out"
            )
            break
        try:
            card = read_card(path)
        except RunFolderError as error:
            refused.append(f"{shown}: {printable(str(error).partition(': ')[2], 300)}")
            continue
        if card.score not in RANKED:
            score = printable(card.score, 60)
            refused.append(
                f"{shown}: its score is {score}; defences are ranked by {listing(RANKED)}"
            )
            continue
        if card.hash in cards:
            refused.append(f"{shown}: another card of the same sweep counts")
            continue
        cards[card.hash] = card
    return list(cards.values()), refused


def _files(folder: Path) -> Iterator[Path]:
    """Yield the cards in order; the cells of a sweep have none and are not looked into."""
    waiting, seen = [(folder, 0)], 0
    while waiting:
        here, depth = waiting.pop(0)
        try:
            with os.scandir(here) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError:
            continue
        for item in items:
            if item.name == CARD and not item.is_symlink():
                yield here / item.name
            elif depth < MAX_DEPTH and item.is_dir(follow_symlinks=False) and item.name != "cells":
                seen += 1
                if seen <= MAX_FOLDERS:
                    waiting.append((here / item.name, depth + 1))


def _page(found: Sequence[Bench], cards: Sequence[SweepCard], refused: Sequence[str]) -> str:
    styles = [(HERE / name).read_text("utf-8") for name in ("style.css", "sweep.css")]
    return str(
        templates()
        .get_template("leaderboard.html.j2")
        .render(
            benches=found,
            cards=cards,
            refused=refused[:MAX_SHOWN],
            more_refused=max(0, len(refused) - MAX_SHOWN),
            flags=FLAGS,
            edge=EDGE,
            nobody=nobody,
            reasons=reasons,
            trainings=trainings,
            pictures=[scatter(bench) for bench in found],
            key=key,
            shown=MAX_SHOWN,
            style=Markup("\n".join(styles)),  # noqa: S704 - our own files, not foreign text
        )
    )


def _table(found: Sequence[Bench]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for bench in found:
        for standing in bench.standings:
            writer.writerows(_lines(bench, standing))
    return text.getvalue()


def _lines(bench: Bench, standing: LeaderboardRow) -> Iterator[Sequence[str]]:
    for attack, met in standing.met.items():
        yield [
            _safe(bench.bench.name),
            bench.bench.hash,
            _safe(bench.score),
            standing.rank.rstrip("="),
            _safe(standing.defence.name),
            standing.defence.hash,
            _safe(bench.attacks[attack].name),
            attack,
            str(attack == standing.worst).lower(),
            *_numbers(met.found),
            _number(met.clean.value),
            _number(met.mean_of(FREE)),
            _number(met.mean_of(REMOVED)),
            _number(met.work),
            "; ".join(standing.flags),
            _safe("; ".join(reasons(standing, bench))),
            "; ".join(_attack_flags(bench, attack)),
            _safe(" && ".join(met.replay)),
        ]


def _attack_flags(bench: Bench, attack: str) -> Iterator[str]:
    for name, found in (
        ("weak attack", bench.weak),
        ("no baseline", bench.unknown),
        ("no backdoor", bench.costly),
    ):
        if attack in found:
            yield name


def _numbers(found: Estimate) -> list[str]:
    return [*map(_number, (found.value, found.low, found.high)), str(found.n)]


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _safe(text: str) -> str:
    """Return foreign text that no spreadsheet takes for a formula."""
    shown = printable(text, 4000)
    return f"'{shown}" if shown[:1] in tuple("=+-@") else shown
