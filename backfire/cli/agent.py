"""``backfire agent start``: an agent on a machine of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from backfire.cli.options import Debug
from backfire.errors import told
from backfire.terminal import say
from scenarios.text.quoting import printable

agent_app = typer.Typer(
    name="agent", help="Play an agent on a machine of its own.", no_args_is_help=True
)


@agent_app.callback()
def _agent() -> None:
    """Play an agent on a machine of its own."""


@agent_app.command()
def start(
    kit: Annotated[Path, typer.Argument(help="The agent's kit, from `backfire deploy init`.")],
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to go on trying to connect.")
    ] = 90.0,
    debug: Debug = False,
) -> None:
    """Connect an agent to its server and play until Ctrl-C or SIGTERM, which end it at once.

    A connection that is lost is tried again until it is back.

    KIT is a folder with the agent's key, the server's ca.crt and a filled-in agent.yaml.

    Exit code 0: told to stop. 2: agent.yaml is wrong. 3: the server does not let it in.
    """
    with told(debug=debug, json_output=False):
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it logs is told in our words
        from backfire.runtimes.grpc.agent import ConnectionSettings, Stop, serve
        from clients.agent_file import read_agent
        from clients.private import private_app

        agent, stop = read_agent(kit), Stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop.hear)
        serve(
            ConnectionSettings(
                name=agent.agent,
                server=agent.server,
                key=kit / "key",
                ca=kit / "ca.crt",
                most=int(agent.accept.max_message_mib * 2**20),
                discreet=agent.play == "private",
                kit=kit,
            ),
            lambda scenario, table: private_app(agent, scenario, table),
            lambda line: say(printable(line)),
            stop,
            wait,
        )
