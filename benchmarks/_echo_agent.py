"""An agent that learns nothing, for benchmarks: ``python -m benchmarks._echo_agent KIT``.

It hands back the model that it is sent, and makes rows up that it is asked for. All else is the
agent of `backfire agent start`.
"""

from __future__ import annotations

import signal
import sys
import zlib
from pathlib import Path

import numpy as np
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from backfire.runtimes.grpc.agent import ConnectionSettings, Stop, serve
from learning.wire import RECORD, pack

ROW = (3, 64, 64)


def client_app(name: str) -> ClientApp:
    """Return the app of an agent."""
    client = ClientApp()

    @client.train("update")
    def update(message: Message, context: Context) -> Message:
        content = RecordDict({RECORD: message.content.array_records[RECORD]})
        return Message(content, reply_to=message)

    @client.query("contribute")
    def contribute(message: Message, context: Context) -> Message:
        ask = message.content.config_records["ask"]
        start, stop = int(ask["start"]), int(ask["stop"])
        draw = np.random.default_rng([zlib.crc32(name.encode()), start])
        return Message(pack({"x": draw.random((stop - start, *ROW), np.float32)}), reply_to=message)

    return client


def main() -> None:
    """Answer until told to stop."""
    kit, stop = Path(sys.argv[1]), Stop()
    told = yaml.safe_load((kit / "agent.yaml").read_text())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.hear)
    seat = ConnectionSettings(
        told["agent"], told["server"], kit / "key", kit / "ca.crt", 2**29, kit=kit
    )
    serve(
        seat, lambda *_: client_app(told["agent"]), lambda line: print(line, flush=True), stop, 90.0
    )


if __name__ == "__main__":
    main()
