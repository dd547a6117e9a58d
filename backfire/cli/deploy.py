"""The operator's commands: ``backfire deploy init | add | remove | renew | up | status | down``.

``probe`` is for both sides: it says whether an agent's machine reaches the server.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backfire.cli.options import Debug, Json
from backfire.deployment.play_mode import PlayMode
from backfire.errors import FAILED, told
from backfire.terminal import say
from scenarios.text.quoting import listing, printable

if TYPE_CHECKING:
    from backfire.deployment.layout import Deployment
    from backfire.deployment.operations import Status, Up

app = typer.Typer(
    help="Set up and run the server's side of games on real machines.", no_args_is_help=True
)

_Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="The deployment's folder.", show_default=False)
]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent.", show_default=False)]
_Hosts = Annotated[
    list[str],
    typer.Option(
        "--host",
        metavar="NAME",
        help="Name or IP address that agents reach this machine under; repeatable, the first one "
        "goes into the kits.",
        show_default=False,
    ),
]
_Days = Annotated[
    int, typer.Option("--days", min=1, max=3650, help="Validity of the server's certificate.")
]
_Play = Annotated[
    PlayMode,
    typer.Option("--play", help="What `agent.yaml` says at first; `scenario` is for rehearsals."),
]
_PORT = typer.Option(min=1, max=65535, help="Control and Runtime API; only on this machine.")


@app.command()
def init(
    folder: _Folder,
    agents: Annotated[
        str, typer.Option("--agents", metavar="A,B,...", help="The agents.", show_default=False)
    ],
    hosts: _Hosts,
    port: Annotated[int, _PORT] = 8443,
    fleet_port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port that agents connect to.")
    ] = 9443,
    fleet_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address that it is bound to.")
    ] = "0.0.0.0",  # noqa: S104 - agents come from other machines; keys are required
    days: _Days = 365,
    play: _Play = PlayMode.PRIVATE,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make certificates, a key for each agent, and each agent's kit.

    DIR must not exist yet. It holds secrets: only you may read it.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.operations import Plan
        from backfire.deployment.operations import init as make

        plan = Plan(hosts, agents.split(","), port, fleet_port, fleet_host, days, play)
        made = make(folder, plan)
        if json_output:
            _print_json({"folder": str(made.folder), "kits": _kits(made)})
            return
        say(f"Made {printable(str(folder))}.")
        for name, kit in _kits(made).items():
            say(f"  hand over to {name}: {printable(kit)}")
        say("Send each kit to its owner over a channel that nobody else can read; it holds a key.")
        say(f"Next: backfire deploy up {printable(str(folder))}")


@app.command()
def add(
    folder: _Folder,
    name: _Name,
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="The agent's own public key (.pub), where its owner keeps the private one."
        ),
    ] = None,
    play: _Play = PlayMode.PRIVATE,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Add an agent, with a key and a kit of its own."""
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.operations import add as add_agent

        made = add_agent(folder, name, public_key, play)
        if json_output:
            _print_json({"folder": str(made.folder), "kits": {name: _kits(made)[name]}})
            return
        say(f"Hand over to {name}: {printable(_kits(made)[name])}")
        say(f"Next: backfire deploy up {printable(str(folder))}  (lets {name} in)")


@app.command()
def remove(folder: _Folder, name: _Name, json_output: Json = False, debug: Debug = False) -> None:
    """Remove an agent; its key can never be used again."""
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.operations import remove as remove_agent

        left = remove_agent(folder, name).settings.agents
        if json_output:
            _print_json({"removed": name, "agents": list(left)})
            return
        say(f"Removed {printable(name)}; left: {listing(left)}.")
        say(f"Next: backfire deploy up {printable(str(folder))}  (revokes the key)")


@app.command()
def renew(
    folder: _Folder,
    hosts: _Hosts = [],  # noqa: B006 - typer wants a list, and nobody changes it
    days: _Days = 365,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make a new certificate for the server; the kits stay valid.

    --host adds further names to the certificate.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.operations import renew as renew_certificate

        made = renew_certificate(folder, hosts, days)
        if json_output:
            _print_json({"folder": str(made.folder), "days": days})
            return
        say(f"The server's certificate is valid for {days} days.")
        shown = printable(str(folder))
        say(f"Next: backfire deploy down {shown}, then backfire deploy up {shown}")


@app.command()
def up(
    folder: _Folder,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Stay until it ends, and log here: for containers and systemd."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until it answers.")] = 60.0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Start the SuperLink unless it runs, wait until it is well, and let the agents in.

    Exit code 0: it is up. 2: the command is wrong. 3: it could not be brought up.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.layout import Deployment
        from backfire.deployment.operations import up as bring_up
        from backfire.deployment.operations import up_in_foreground

        def show(done: Up) -> None:
            if json_output:
                _print_json(asdict(done))
            else:
                _show_up(Deployment.read(folder), done, folder)

        if foreground:
            up_in_foreground(folder, show)
        else:
            show(bring_up(folder, timeout))


@app.command()
def status(folder: _Folder, json_output: Json = False, debug: Debug = False) -> None:
    """Say whether the SuperLink is well, and which agents are there.

    Exit code 0: games can be played. 2: the command is wrong. 3: they cannot.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.operations import status as look

        found = look(folder)
        if json_output:
            _print_json({"well": found.well, **asdict(found)})
        else:
            _show_status(found)
        if not found.well:
            raise typer.Exit(FAILED)


@app.command()
def down(
    folder: _Folder,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that it may take to end by itself.")
    ] = 10.0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """End the SuperLink; what it keeps stays."""
    with told(debug=debug, json_output=json_output):
        from backfire.deployment.operations import down as end

        happened = end(folder, grace)
        if json_output:
            _print_json({"superlink": happened})
        else:
            say(f"SuperLink: {happened}.")


@app.command()
def probe(
    server: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="As in agent.yaml.", show_default=False)
    ],
    ca: Annotated[Path, typer.Option("--ca", help="The kit's ca.crt.", show_default=False)],
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether this machine reaches the server, and whether its certificate is the right one.

    Exit code 0: it does. 2: the command is wrong. 3: it does not.
    """
    with told(debug=debug, json_output=json_output):
        from backfire.runtimes.grpc.probe import reach

        reach(server, ca)
        if json_output:
            _print_json({"server": server, "reached": True})
        else:
            say(f"{printable(server)}: reached, with a certificate of this authority.")


def _kits(made: Deployment) -> dict[str, str]:
    return {name: str(made.kits / f"{name}.zip") for name in made.settings.agents}


def _show_up(deployment: Deployment, done: Up, folder: Path) -> None:
    from backfire.deployment.superlink import flower_version, log_file

    verb = "started" if done.started else "runs already"
    lines = [
        f"SuperLink {verb} (Flower {flower_version()}, process {done.pid}).",
        f"  agents:  {deployment.fleet}, bound to {deployment.fleet_bound}; gRPC, TLS, only with "
        "a known key. Open this port.",
        f"  control: https://{deployment.control}; asks for no credentials, so it is bound to "
        "this machine only. Keep it so.",
        f"  log:     {printable(str(log_file(deployment)))}",
        f"  let in:  {listing(deployment.settings.agents)}",
    ]
    if done.revoked:
        lines.append(f"  revoked: {listing(done.revoked)}")
    if done.days_left < 30:
        lines.append(f"  note:    the certificate ends in {done.days_left} days: deploy renew")
    shown = printable(str(folder))
    lines.append(f"Next: backfire run SCENARIO --runtime grpc --connection {shown}")
    say("\n".join(lines))


def _show_status(found: Status) -> None:
    process = f"process {found.pid}" if found.running else "not running"
    valid = found.certificate
    lines = [
        f"SuperLink:   {process}",
        f"control:     {'well' if found.control else 'no answer'}",
        f"fleet:       {'well' if found.fleet else 'no answer'}",
        f"certificate: {valid if isinstance(valid, str) else f'valid for {valid} days'}",
    ]
    width = max((len(agent.name) for agent in found.agents), default=0)
    for agent in found.agents:
        since = f" since {agent.since[:19]} UTC" if agent.since else ""
        lines.append(f"  {agent.name:{width}}  {agent.state}{since}")
    if found.strangers:
        lines.append(f"strangers: {listing(found.strangers)} (`backfire deploy up` revokes them)")
    say("\n".join(lines))


def _print_json(value: object) -> None:
    say(json.dumps(value, indent=2))
