"""What an agent that does nothing costs: the local runtime beside Flower's engine on Ray."""

from __future__ import annotations

import time

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from backfire.runtimes.local import run_local
from backfire.runtimes.ray import run_ray
from benchmarks._measure import Mark, alone, goal, has_ray, steady
from learning.wire import RECORD, Expected, Refusal, pack, unpack
from server.wire.exchange import Ask, Exchange

MILLISECONDS = 0.5
VALUES = 10
PATIENCE = 600.0


def client_app() -> ClientApp:
    """Return an app that hands back the model that it was sent."""
    client = ClientApp()

    @client.train("update")
    def update(message: Message, context: Context) -> Message:
        content = RecordDict({RECORD: message.content.array_records[RECORD]})
        return Message(content, reply_to=message)

    return client


def by_exchange(grid: Grid, nodes: list[int], number: int) -> int:
    """Play a round with the server's own conversation; return the number of good replies."""
    names = {f"agent-{node}": node for node in nodes}
    model = pack({"w": np.full(VALUES, number, np.float32)}).array_records[RECORD]
    expected = {"w": Expected("float32", (VALUES,))}
    replies = []

    def read(ask: Ask, content: RecordDict) -> None:
        replies.append(unpack(content, expected)["w"])

    def refuse(ask: Ask, refusal: Refusal) -> None:
        raise refusal

    asks = [
        Ask(name, "update", {"round": number}, category="train", arrays=model) for name in names
    ]
    Exchange(grid, names, PATIENCE).ask(asks, read, refuse)
    return sum(float(reply[0]) == number for reply in replies)


def by_grid(grid: Grid, nodes: list[int], number: int) -> int:
    """Play a round as Flower's strategies do; return the number of good replies."""
    model = pack({"w": np.full(VALUES, number, np.float32)}).array_records[RECORD]
    fields = ConfigRecord({"round": number})
    messages = [
        Message(RecordDict({RECORD: model, "ask": fields}), node, "train.update") for node in nodes
    ]
    replies = list(grid.send_and_receive(messages, timeout=PATIENCE))
    arrays = [reply.content.array_records[RECORD]["w"].numpy() for reply in replies]
    return sum(float(array[0]) == number for array in arrays)


CONVERSATIONS = {"Exchange": by_exchange, "send_and_receive": by_grid}


def server_app(clients: int, rounds: int, told: dict[str, list[Mark]]) -> ServerApp:
    """Return an app that plays rounds in each conversation and marks the end of each."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        while len(nodes := list(grid.get_node_ids())) < clients:
            time.sleep(0.05)
        for name, conversation in CONVERSATIONS.items():
            for number in range(1, rounds + 2):
                good = conversation(grid, nodes, number)
                assert good == clients, f"{good} good replies of {clients} clients"
                told.setdefault(name, []).append(Mark.now())

    return server


def played(engine: str, clients: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return start and rounds of each conversation on one engine."""
    told: dict[str, list[Mark]] = {}
    begin = Mark.now()
    server, client = server_app(clients, rounds, told), client_app()
    if engine == "local":
        run_local(server, client, [f"agent-{k}" for k in range(clients)])
    else:
        run_ray(server, client, clients)
    starts = dict(zip(CONVERSATIONS, [begin, begin], strict=True))
    figures = {name: steady([starts[name], *marks]) for name, marks in told.items()}
    for later in list(CONVERSATIONS)[1:]:  # the engine was started by the first
        figures[later]["start s"] = figures["Exchange"]["start s"]
    return figures


def run(quick: bool) -> dict:
    """Play no-op rounds on both engines, each in a process of its own."""
    return measure((10, 50) if quick else (10, 100, 1000), 2 if quick else 3)


def measure(sizes: tuple[int, ...], rounds: int, ray: bool | None = None) -> dict:
    """Return the table of some sizes.

    Args:
        sizes: Numbers of clients.
        rounds: Rounds on Ray after the first; the local runtime plays ten times as many.
        ray: Whether to measure Flower's engine; by default where it is installed.
    """
    rows = []
    for clients in sizes:
        local = alone(played, "local", clients, 10 * rounds)
        rows += [_row("local", clients, name, figures) for name, figures in local.items()]
        rows[-len(local)]["note"] = _verdict(rows[-len(local)])
        if not (has_ray() if ray is None else ray):
            rows.append({"clients": clients, "engine": "flwr on Ray", "note": "not measured"})
            continue
        there = alone(played, "ray", clients, rounds)
        rows += [_row("flwr on Ray", clients, name, figures) for name, figures in there.items()]
        own = local["Exchange"]
        for row, figures in zip(rows[-len(there) :], there.values(), strict=True):
            row["times local"] = figures["s a round"] / own["s a round"]
            row["CPU times local"] = figures["CPU s a round"] / max(own["CPU s a round"], 1e-3)
            row["start times local"] = figures["start s"] / own["start s"]
    note = (
        f"Clients that hand back an array of {VALUES} float32 at once: the same ServerApp and "
        "ClientApp on both engines, each in a process of its own, imports not counted. Exchange is "
        "the game's own conversation, which reads every reply as it reads a hostile one; "
        "send_and_receive is what Flower's strategies call. start: until the end of the first "
        "round; later rounds: the median. Ratios are to local with Exchange. Local computes on one "
        "thread and never waits: its seconds beyond its CPU time are other work on the machine. "
        "CPU time and MiB are of all processes of the engine; pages that several hold count for "
        "each."
    )
    return {"name": "overhead: clients that do nothing", "rows": rows, "note": note}


def _row(engine: str, clients: int, conversation: str, figures: dict[str, float]) -> dict:
    return {
        "clients": clients,
        "engine": engine,
        "conversation": conversation,
        "start s": figures["start s"],
        "ms a round": 1000 * figures["s a round"],
        "ms a client": 1000 * figures["s a round"] / clients,
        "CPU ms a client": 1000 * figures["CPU s a round"] / clients,
        "MiB": figures["MiB"],
    }


def _verdict(row: dict) -> str:
    wall, cpu = (row[what] <= MILLISECONDS for what in ("ms a client", "CPU ms a client"))
    return (
        f"{goal(f'<= {MILLISECONDS} ms a client', wall)}, in CPU time {'met' if cpu else 'not met'}"
    )
