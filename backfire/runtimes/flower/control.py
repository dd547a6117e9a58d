"""The private names of Flower that the operator needs: the agents' keys in the Control API.

Checked against flwr 1.39. `flwr supernode list` shows neither names nor keys, so that a key under
a wrong name could not be seen with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

__all__ = ["Control", "ControlError", "Node", "control"]

_GONE = "unregistered"


class ControlError(RuntimeError):
    """The SuperLink does not answer, or refuses; one line."""


@dataclass(frozen=True)
class Node:
    """A key that the SuperLink knows.

    Attributes:
        node_id: The SuperLink's own number for it.
        name: The name that it is registered under.
        key: The public key, PEM.
        state: ``registered`` (never seen), ``online`` or ``offline``.
        since: When it last came or went, ISO 8601; "" where it never did.
        revoked: Whether it may no longer connect.
    """

    node_id: int
    name: str
    key: bytes
    state: str
    since: str
    revoked: bool


class Control:
    """The Control API of a SuperLink."""

    def __init__(self, client: ControlHttpClient) -> None:
        self._client = client

    def nodes(self) -> list[Node]:
        """Return every key that was ever registered."""
        found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            Node(
                node_id=node.node_id,
                name=node.name,
                key=node.public_key,
                state=node.status,
                since=(
                    node.last_activated_at if node.status == "online" else node.last_deactivated_at
                ),
                revoked=node.status == _GONE,
            )
            for node in found
        ]

    def register(self, key: bytes, name: str) -> None:
        """Let the holder of a key connect, under a name."""
        self._client.RegisterNode(RegisterNodeRequest(public_key=key, name=name))

    def revoke(self, node_id: int) -> None:
        """Let the holder of a key connect no longer; for ever."""
        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def sweep(self, runs: int = 20) -> None:
        """Let the SuperLink delete what the last so many runs have left, where they are over.

        It does so whenever it lists them, and at no other time.
        """
        self._client.ListRuns(ListRunsRequest(limit=runs))


@contextmanager
def control(address: str, ca: bytes) -> Iterator[Control]:
    """Connect to a SuperLink's Control API.

    Args:
        address: Its host and port.
        ca: The certificate that its own must be signed by, PEM.

    Raises:
        ControlError: If it does not answer, is of another version of Flower, or refuses.
    """
    logger = logging.getLogger("flwr")
    client = ControlHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=ca,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield Control(client)
    except httpx.HTTPStatusError as error:
        raise ControlError(_told(error.response)) from None
    except httpx.HTTPError as error:
        raise ControlError(f"the SuperLink at {address} does not answer: {error}") from None
    except SystemExit:  # how Flower tells that the versions differ
        raise ControlError("the SuperLink is of another version of Flower than this one") from None
    finally:
        logger.setLevel(level)
        client.close()


def _told(response: httpx.Response) -> str:
    try:
        return f"the SuperLink refused: {json.loads(response.text)['message']}"
    except (ValueError, KeyError, TypeError):
        return f"the SuperLink refused with HTTP status {response.status_code}"
