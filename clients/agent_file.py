"""`agent.yaml`: what the owner of a private agent says of it, and the games that it agrees to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from clients.data_attacks.base import Behaviour
from clients.data_attacks.benign import Benign
from clients.data_attacks.private import Private
from clients.update_attacks.base import UpdateAttack
from learning.data.base import DataSource
from learning.frozen import Frozen
from learning.method import kind_of, one_of
from scenarios.families import FAMILIES
from scenarios.loader import parse_as, problem_at
from scenarios.schema import Name, Window
from scenarios.text.errors import LocatedProblem, ScenarioError
from scenarios.text.quoting import shown
from scenarios.text.yaml_reader import YamlError, read_file

if TYPE_CHECKING:
    AnyData = DataSource
    AnyBehaviour = Behaviour
    AnyUpdateAttack = UpdateAttack
else:
    AnyData = one_of(DataSource, FAMILIES["data"])
    AnyBehaviour = one_of(Behaviour, FAMILIES["behaviour"])
    AnyUpdateAttack = one_of(UpdateAttack, FAMILIES["update_attack"])

AGENT_FILE = "agent.yaml"


class AgentFileError(ScenarioError):
    """An agent's file is wrong; a line for each mistake, with file, place and field."""


class Accept(Frozen):
    """What an owner agrees to."""

    scenarios: Literal["any"] | Annotated[tuple[Name, ...], Field(max_length=10_000)] = Field(
        "any", description="Names of the scenarios that the agent plays; any: all."
    )
    games: tuple[Literal["pooled", "federated"], ...] = Field(
        ("pooled", "federated"),
        description="pooled hands rows over to the server; federated only model updates.",
    )
    models: Literal["any"] | Annotated[tuple[str, ...], Field(max_length=1000)] = Field(
        "any", description="Kinds of models that it trains; any: all that this Backfire knows."
    )
    max_message_mib: float = Field(
        512, gt=0, le=65_536, description="Largest message that it takes, in MiB."
    )
    max_rows: int | None = Field(
        None, ge=2, le=100_000_000, description="Most of its rows that take part; null: all."
    )
    max_run_time_share: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Largest share of these rows that it hands over, in any game, for the referee "
        "to score it with; 0: none, and then nobody scores it.",
    )
    max_local_epochs: int = Field(
        1000, ge=1, le=100_000, description="Most epochs of one training on its rows."
    )
    max_trainings: int = Field(
        100_000,
        ge=1,
        le=10**9,
        description="Most trainings in one game: one for each round, defender and control game.",
    )
    files: bool = Field(
        False,
        description="Whether a scenario may name files on this machine as its data, where play: "
        "scenario; what it finds there is contributed.",
    )


class AgentFile(Frozen):
    """What the owner of an agent says of it, in the kit's `agent.yaml`."""

    agent: Name = Field(description="The agent's name, which its key is registered under.")
    server: str = Field(
        pattern=r"^[^\s/:]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$",
        examples=["table.example.org:9443"],
        description="Host and port of the server's Fleet API.",
    )
    play: Literal["private", "scenario"] = Field(
        "private",
        description="private: with the data and the behaviour of this file. scenario: the part, "
        "and the data, that the scenario gives to this name, for rehearsals.",
    )
    data: AnyData | None = Field(None, description="The private data; needed where play: private.")
    behaviour: AnyBehaviour = Field(Benign(), description="What the agent does with its data.")
    update: AnyUpdateAttack | None = Field(
        None, description="What it does with its model update; null: hands it over as trained."
    )
    window: Window = Field(Window(), description="The rounds in which it cheats.")
    seed: int = Field(
        0,
        ge=0,
        le=2**63 - 1,
        description="The agent's own draws follow from it; keep it to yourself.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        examples=["auto", "cpu", "cuda", "cuda:0", "mps"],
        description="Where it trains.",
    )
    accept: Accept = Field(Accept(), description="What the owner agrees to.")


def read_agent(kit: Path) -> AgentFile:
    """Read the agent's file of a kit; relative paths of data start at the kit.

    Raises:
        AgentFileError: If it is wrong.
    """
    file = kit / AGENT_FILE
    if not kit.is_dir():
        got = "a file: unpack it first, and name its folder" if kit.exists() else "nothing"
        line = f"expected the folder of a kit, with an {AGENT_FILE} in it, got {got}"
        raise AgentFileError([LocatedProblem(str(kit), None, None, "", line)])
    try:
        text = read_file(file)
    except YamlError as error:
        raise AgentFileError([LocatedProblem(str(file), None, None, "", error.message)]) from None
    try:
        agent = parse_as(AgentFile, text, str(file), lambda data: _from_kit(data, kit))
    except ScenarioError as error:
        raise AgentFileError(error.problems) from None
    problems = [problem_at(text, str(file), path, line) for path, line in _mistakes(agent)]
    if problems:
        raise AgentFileError(problems)
    return agent


def _mistakes(agent: AgentFile) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what is wrong with a file whose fields are right one by one."""
    if isinstance(agent.behaviour, Private):
        line = "expected what the agent does (private is what a scenario says of it), got 'private'"
        yield ("behaviour",), line
    if agent.update is not None and agent.update.grant != "own":
        yield (
            ("update",),
            "expected an attack that knows its own update alone, got "
            f"{shown(kind_of(type(agent.update)))}: on real machines nobody grants it others' "
            "updates",
        )
    grant = agent.behaviour.grant
    if grant is not None and (grant.pool or grant.group):
        yield (
            ("behaviour",),
            "expected an attack that knows its own rows alone (knowledge: own, coordination: "
            "none): on real machines nobody grants it others' rows",
        )
    if agent.play == "scenario":
        return
    if agent.data is None:
        yield ("data",), "expected where the private data lie (play: private needs them), got none"
    path = getattr(agent.data, "path", None)
    if path is not None and not Path(path).expanduser().exists():
        yield (
            ("data", "path"),
            f"expected the private data there, got nothing at {shown(path, 200)}",
        )


def _from_kit(document: object, kit: Path) -> object:
    """Let relative paths of the data start at the kit."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
        return document
    data = dict(document["data"])
    for name in ("path", "root"):
        if isinstance(data.get(name), str) and not data[name].startswith("~"):
            data[name] = str(kit / data[name])
    return {**document, "data": data}
