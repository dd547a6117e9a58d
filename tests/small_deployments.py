"""Deployments for tests: small, on loopback, with ports that nobody uses."""

import socket
from contextlib import contextmanager

from backfire.deployment.operations import Plan, down, init, up

AGENTS = ("alice", "bob", "mallory")


def free_ports(count=2):
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def plan(**changes):
    port, fleet_port = free_ports()
    told = {
        "hosts": ["table.example.org", "10.0.0.7"],
        "agents": AGENTS,
        "port": port,
        "fleet_port": fleet_port,
        "fleet_host": "127.0.0.1",
    }
    return Plan(**(told | changes))


@contextmanager
def deployed(folder, **changes):
    """Bring a deployment up in a folder; down again afterwards."""
    made = init(folder, plan(**changes))
    try:
        up(made.folder)
        yield made
    finally:
        down(made.folder)
