"""The roll of agents: the SuperLink lets in the keys of ``deploy.yaml``, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backfire.deployment.layout import Deployment
from backfire.deployment.pki import public_pem
from backfire.errors import DeployError
from backfire.runtimes.flower.control import Control, ControlError, Node, control

MISSING = "missing"


@dataclass(frozen=True)
class Called:
    """An agent of the roll.

    Attributes:
        name: Its name.
        state: ``online``, ``offline``, ``registered`` (never seen), ``missing`` (not let in).
        since: When it last came or went, ISO 8601; "" where it never did.
        node_id: The SuperLink's number for it; "" where it is missing.
    """

    name: str
    state: str
    since: str = ""
    node_id: str = ""


def enrol(deployment: Deployment) -> tuple[list[str], list[str]]:
    """Make the SuperLink let in the agents of a deployment, and nobody else.

    Returns:
        The names that were registered, and those whose keys were revoked.

    Raises:
        DeployError: If the SuperLink does not answer or refuses.
    """
    wanted = {public_pem(deployment.public_key(name)): name for name in deployment.settings.agents}
    if len(wanted) < len(deployment.settings.agents):
        raise DeployError("two agents share one key; remove one of them and add it again")
    try:
        with control(deployment.control, deployment.ca.read_bytes()) as link:
            known = {node.key: node for node in link.nodes()}
            revoked = _revoke(link, known.values(), wanted)
            added = [
                name for key, name in wanted.items() if _register(link, known.get(key), key, name)
            ]
    except ControlError as error:
        raise DeployError(str(error)) from None
    return added, revoked


def _revoke(link: Control, known: Iterable[Node], wanted: dict[bytes, str]) -> list[str]:
    others = [node for node in known if not node.revoked and wanted.get(node.key) != node.name]
    for node in others:
        link.revoke(node.node_id)
    return [node.name for node in others]


def _register(link: Control, node: Node | None, key: bytes, name: str) -> bool:
    if node is None:
        link.register(key, name)
    elif node.revoked or node.name != name:
        raise DeployError(
            f"the key of {name} was revoked; run `backfire deploy remove` and `add` for a new one"
        )
    return node is None


def call(deployment: Deployment) -> tuple[list[Called], list[str]]:
    """Return the agents of a deployment with their states, and the names of strangers let in.

    Raises:
        DeployError: If the SuperLink does not answer.
    """
    try:
        with control(deployment.control, deployment.ca.read_bytes()) as link:
            nodes = {(node.key, node.name): node for node in link.nodes() if not node.revoked}
    except ControlError as error:
        raise DeployError(str(error)) from None
    called = []
    for name in deployment.settings.agents:
        node = nodes.pop((public_pem(deployment.public_key(name)), name), None)
        called.append(
            Called(name, MISSING)
            if node is None
            else Called(name, node.state, node.since, str(node.node_id))
        )
    return called, [name for _, name in nodes]
