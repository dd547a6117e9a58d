"""An agent with faults, for tests: ``faulty_agent.py KIT KIND:ROUND:FAULT ...``

It is the agent of `backfire agent start` in all but its app, which hangs, raises or is slow when it
is asked for KIND (such as train.update) in ROUND (* for any).
"""

import signal
import sys
import time
from pathlib import Path

from backfire.runtimes.grpc.agent import ConnectionSettings, Stop, serve
from clients.agent_file import read_agent
from clients.private import private_app

KIT = Path(sys.argv[1])
FAULTS = [tuple(fault.split(":")) for fault in sys.argv[2:]]


def fault_of(message):
    kind, number = message.metadata.message_type, message.content.config_records["ask"].get("round")
    for wanted, when, what in FAULTS:
        if wanted == kind and when in ("*", str(number)):
            print(f"{what} in {kind} of round {number}", flush=True)
            return what
    return ""


def with_faults(app):
    def answer(message, context):
        name, _, argument = fault_of(message).partition("=")
        if name == "hang":
            time.sleep(3600)
        if name == "raise":
            raise RuntimeError(f"it hurts: {argument}")
        if name == "slow":
            time.sleep(float(argument))
        return app(message, context)

    return answer


agent, stop = read_agent(KIT), Stop()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop.hear)
serve(
    ConnectionSettings(agent.agent, agent.server, KIT / "key", KIT / "ca.crt", 2**29, False, KIT),
    lambda scenario, table: with_faults(private_app(agent, scenario, table)),
    lambda line: print(line, flush=True),
    stop,
)
