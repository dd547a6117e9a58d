"""One JSON card for each finished sweep: what was played against what, and what came of it.

A card holds no times and no paths, so that the same sweep gives the same bytes. It is what a
leaderboard is made of, and may come from anybody: `read_card` takes nothing for granted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from backfire.evidence.estimates import Estimate
from backfire.evidence.published.sweep_table import SweepTable, spot_key
from backfire.evidence.series import Series, Setting, bounds_of
from scenarios.scenario import Scenario
from scenarios.sweep.spec import Sweep
from scenarios.text.quoting import printable
from server.errors import RunFolderError
from server.referee.registry import class_of
from server.store.atomic import json_bytes, write_bytes
from server.store.reading import MAX_SMALL, read_bytes

CARD: Final = "card.json"
# Cards of version 1 know neither cost nor removed honest agents; early ones of version 2 lack the
# accuracy of the best constant answer.
VERSION: Final = 2
MAX_ENTRIES: Final = 5000
_WORK: Final = "work"

_Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Short = Annotated[str, StringConstraints(max_length=200)]
_Text = Annotated[str, StringConstraints(max_length=2000)]
_Share = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
_Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Setting = bool | int | Annotated[float, Field(allow_inf_nan=False)] | _Short


class _CardRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Identity(_CardRecord):
    """What somebody played, by name and by content.

    Attributes:
        name: For people.
        hash: SHA-256 of the part of the resolved scenario that says it: equal content, equal hash.
        says: The methods with their parameters, in short; "" where the card does not say.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    hash: _Hash
    says: _Text = ""


class AttackOnInputs(_CardRecord):
    """The adversarial accuracy under one attack on inputs.

    Attributes:
        kind: The attack's.
        norm: Of the ball.
        epsilon: Radius.
        others: Hash of its other parameters: attacks that differ in the radius alone share it.
        score: Adversarial accuracy by seed.
    """

    kind: _Short
    norm: _Short
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    others: _Hash
    score: CardScore


class HeapShare(_CardRecord):
    """Which share of the seeds lies in the upper of two heaps, such as those that learned.

    Attributes:
        above: Seeds in the upper heap.
        seeds: Seeds in all.
        low: Lower end of Wilson's 95 % interval of their share.
        high: Upper end.
    """

    above: Annotated[int, Field(ge=1, le=1000)]
    seeds: Annotated[int, Field(ge=2, le=1000)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class CardScore(_CardRecord):
    """A score over seeds.

    Attributes:
        value: Mean; None without values.
        low: Lower end of the 95 % interval over seeds; None where there is none: for fewer than two
            seeds, seeds that all gave the same, and seeds in two heaps.
        high: Upper end.
        heaps: Where the seeds fall into two heaps, how many of them lie above the gap.
        std_across_agents: Root mean square over seeds; None where no game has two agents.
        by_seed: Value by seed.
    """

    value: _Share | None = None
    low: _Share | None = None
    high: _Share | None = None
    heaps: HeapShare | None = None
    std_across_agents: _Share | None = None
    by_seed: Annotated[dict[_Short, _Share], Field(max_length=1000)]

    @model_validator(mode="after")
    def _check_seeds(self) -> CardScore:
        if not all(seed.isdecimal() and len(seed) < 20 for seed in self.by_seed):
            raise ValueError("expected seeds as whole numbers")
        return self

    @property
    def seeds(self) -> dict[int, float]:
        """The values by seed."""
        return {int(seed): value for seed, value in self.by_seed.items()}


class CardEntry(_CardRecord):
    """One attack against one defence.

    Attributes:
        at: The cell's place on the sweep's axes.
        bench: Data, model, training and shares: entries of one bench can be compared.
        attack: Who attacks, and how.
        defence: The defender and all its defences.
        scores: By name.
        inputs: Under attacks on inputs.
        work: Models trained for this defender, in units of one full training, mean over seeds;
            None where the card does not say.
    """

    at: Annotated[dict[_Short, _Setting], Field(max_length=32)]
    bench: Identity
    attack: Identity
    defence: Identity
    scores: Annotated[dict[_Short, CardScore], Field(max_length=64)]
    inputs: Annotated[tuple[AttackOnInputs, ...], Field(max_length=64)] = ()
    work: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check_ranges(self) -> CardEntry:
        for name, score in self.scores.items():
            low, high = bounds_of(name)
            ends = [v for v in (score.value, score.low, score.high) if v is not None]
            if not all(low <= value <= high for value in [*ends, *score.by_seed.values()]):
                raise ValueError(f"expected {printable(name, 64)} in {low:g}..{high:g}")
        return self


class SweepCard(_CardRecord):
    """A finished sweep.

    Attributes:
        card: Version of this form.
        sweep: Name.
        hash: The sweep's.
        seeds: Its seeds.
        games: How many cells.
        score: What the attacks are ranked by.
        finding: What a paper's claims came to; "" for no reproduction.
        replay: The command that plays it again, from the folder that holds the sweep's.
        versions: What it was played with.
        more: Entries that found no room.
        entries: In the sweep's order.
    """

    card: Literal[1, 2]
    sweep: _Short
    hash: _Hash
    seeds: Annotated[tuple[_Seed, ...], Field(max_length=1000)]
    games: Annotated[int, Field(ge=0, le=10**6)]
    score: _Short
    finding: _Text = ""
    replay: _Text
    versions: Annotated[dict[_Short, _Short], Field(max_length=64)]
    more: Annotated[int, Field(ge=0, le=10**7)] = 0
    entries: Annotated[tuple[CardEntry, ...], Field(max_length=MAX_ENTRIES)]


# Nothing, and the plain mean of a federation.
_UNDEFENDED: Final[Sequence[object]] = ([], [{"kind": "mean"}])


def is_undefended(defence: Identity) -> bool:
    """Return whether a defender defends by nothing, as its hash tells."""
    return defence.hash in {_hash(plain) for plain in _UNDEFENDED}


def card_of(sweep: Sweep, table: SweepTable) -> SweepCard:
    """Return the card of a finished sweep."""
    entries = list(_entries(sweep, table))
    told = table.side.finding if table.side else ""
    return SweepCard(
        card=VERSION,
        sweep=printable(table.name, 200),
        hash=table.digest,
        seeds=table.seeds,
        games=table.cells,
        score=table.main,
        finding=printable(told, 2000),
        replay=printable(table.replay, 2000),
        versions={printable(k, 200): printable(v, 200) for k, v in table.versions.items()},
        more=max(0, len(entries) - MAX_ENTRIES),
        entries=tuple(entries[:MAX_ENTRIES]),
    )


def write_card(folder: Path, card: SweepCard) -> Path:
    """Write `card.json`; the same sweep gives the same bytes.

    Raises:
        RunFolderError: If the folder cannot be written to; one line.
    """
    path = folder / CARD
    try:
        write_bytes(path, json_bytes(card.model_dump(mode="json", exclude_none=True)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(f"{path}: the card could not be written: {reason}") from None
    return path


def read_card(path: Path, limit: int = 4 * MAX_SMALL) -> SweepCard:
    """Read a card that may come from anybody.

    Raises:
        RunFolderError: If it is too large, no plain file, or no card; one line.
    """
    try:
        return SweepCard.model_validate_json(read_bytes(path, limit))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["loc"] == ("card",):
            known = f"expected a card of version 1 to {VERSION}, got another"
            raise RunFolderError(
                f"{path}: {known}; start its sweep again to make it anew"
            ) from None
        place = printable(".".join(map(str, first["loc"])) or "the whole", 120)
        message = printable(f"{first['msg']}", 200)
        raise RunFolderError(
            f"{path}: expected a card of a sweep, got: {place}: {message}"
        ) from None


def _entries(sweep: Sweep, table: SweepTable) -> Iterator[CardEntry]:
    names = dict.fromkeys(filter(_is_said, table.scores))
    names |= {table.main: None} if _fits(table.main) else {}
    known = {
        name: {spot_key(one.at, one.defender): one for one in table.series(name)}
        for name in (*names, *_adversarial(table), _WORK)
    }
    for at, scenario in _cells(sweep):
        for defender in table.defenders:
            key = spot_key(at, defender)
            found = {name: by_key[key] for name, by_key in known.items() if key in by_key}
            if not found:
                continue
            yield CardEntry(
                at=dict(at),
                bench=_bench(scenario),
                attack=_attack(at, scenario, table),
                defence=_defence(defender, scenario),
                scores={name: _score(found[name]) for name in names if name in found},
                inputs=tuple(_inputs(scenario, found)),
                work=found[_WORK].estimate.value if _WORK in found else None,
            )


def _is_said(score: str) -> bool:
    """Return whether a card says a score: those that a leaderboard ranks and checks by, and more.

    scores.csv has all of them.
    """
    known = class_of(score)
    return known is not None and known.on_card and _fits(score)


def _fits(score: str) -> bool:
    """Return whether a score's values find room on a card: shares and differences do."""
    low, high = bounds_of(score)
    return low >= -1 and high <= 1


def _adversarial(table: SweepTable) -> list[str]:
    return [score for score in table.scores if score.startswith("adversarial:")]


def _cells(sweep: Sweep) -> Iterator[tuple[Mapping[str, Setting], Scenario]]:
    """Yield each place of the sweep once, with a scenario of it: they differ in the seed alone."""
    seen = set()
    for cell in sweep.cells:
        key = spot_key(cell.at, "")
        if key not in seen:
            seen.add(key)
            yield cell.at, cell.scenario


def _score(series: Series) -> CardScore:
    found = series.estimate
    return CardScore(
        value=found.value,
        low=found.low,
        high=found.high,
        heaps=_heaps(found),
        std_across_agents=series.std_across_agents,
        by_seed={str(seed): value for seed, value in series.values.items()},
    )


def _heaps(found: Estimate) -> HeapShare | None:
    if found.heaps is None:
        return None
    share = found.heaps.share
    return HeapShare(above=len(found.heaps.above), seeds=found.n, low=share.low, high=share.high)


def _bench(scenario: Scenario) -> Identity:
    whole = scenario.resolved()
    agents = (
        "agents",
        "poison_count",
        "defenders",
        "referee",
        "seed",
        "name",
        "description",
        "compute",
    )
    kept = {key: value for key, value in whole.items() if key not in agents}
    name = ", ".join(
        str(kept[part].get("kind", "")) if isinstance(kept.get(part), dict) else ""
        for part in ("data", "model")
    )
    return Identity(name=printable(f"{name}, {whole.get('game', 'pooled')}", 400), hash=_hash(kept))


def _attack(at: Mapping[str, Setting], scenario: Scenario, table: SweepTable) -> Identity:
    whole = scenario.resolved()
    parts = [f"{name} {value}" for name, value in at.items()]
    name = ": ".join([table.name, ", ".join(parts)] if parts else [table.name])
    return Identity(
        name=printable(name, 400),
        hash=_hash([whole["agents"], whole.get("poison_count")]),
        says=printable("; ".join(_cheats(scenario)), 2000),
    )


def _cheats(scenario: Scenario) -> Iterator[str]:
    for group in scenario.agents:
        if group.malicious:
            parts = [group.behaviour, group.update] if group.update else [group.behaviour]
            told = " and ".join(_told(part.model_dump(mode="json")) for part in parts)
            yield f"{group.count} x {group.name}: {told}"


def _told(method: Mapping[str, Any]) -> str:
    """Return a method as text, such as ``krum(f=2)``, with all that is set."""
    known = {name: v for name, v in method.items() if name != "kind" and v is not None}
    fields = [f"{name}={_value(value)}" for name, value in known.items()]
    return str(method.get("kind", "")) + (f"({', '.join(fields)})" if fields else "")


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return _told(value)
    return json.dumps(value)


def _defence(defender: str, scenario: Scenario) -> Identity:
    """Return a defender; of a scenario that plays both games it has the game's name before it."""
    defenders: Mapping[str, Any] = scenario.resolved()["defenders"]
    own = defenders.get(defender, defenders.get(defender.rpartition(" ")[2], defender))
    says = " + ".join(_told(one) for one in own) if isinstance(own, list) else ""
    return Identity(
        name=printable(defender, 400), hash=_hash(own), says=printable(says or "nothing", 2000)
    )


def _inputs(scenario: Scenario, found: Mapping[str, Series]) -> Iterator[AttackOnInputs]:
    for attack in scenario.referee.adversarial:
        series = found.get(f"adversarial:{attack.title}")
        fields = attack.model_dump(mode="json")
        epsilon = fields.pop("epsilon", None)
        if series is None or epsilon is None:
            continue
        yield AttackOnInputs(
            kind=str(fields["kind"]),
            norm=str(fields.get("norm", "")),
            epsilon=float(epsilon),
            others=_hash(fields),
            score=_score(series),
        )


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


AttackOnInputs.model_rebuild()
