"""Why an agent could not connect, in a sentence that says what to do.

What comes from gRPC and Flower says where in their code it happened; owners of agents need to know
what is wrong with their kit or their server.
"""

from __future__ import annotations

import re
from typing import Final

from scenarios.text.quoting import printable

# What our own SuperLink says (`flower_superlink`), which cannot be imported without Flower's.
UNKNOWN_KEY: Final = "backfire: this key is not registered"
KEY_IN_USE: Final = "backfire: another process is connected with this key"

# From what is said to what it means; the first that is found in it counts. The server is {server},
# its name or address {host}.
_MEANINGS: Final = (
    (
        UNKNOWN_KEY,
        "{server} does not know this agent's key: ask its operator for a new kit, or to run "
        "`backfire deploy add` with the key's .pub file",
    ),
    (
        KEY_IN_USE,
        "{server} has another process of this agent, or one that was killed less than a minute "
        "ago: end it, or wait; if it is not yours, the key has leaked: tell the operator",
    ),
    (
        r"code: 2004|Failed to activate",
        "{server} does not let this agent's key in: it is not registered there, or another "
        "process plays with it",
    ),
    (
        "certificate has expired",
        "the certificate of {server} has expired: its operator runs `backfire deploy renew`; if "
        "it has not, this machine's clock is wrong",
    ),
    (
        "certificate is not yet valid",
        "the certificate of {server} is not valid yet: this machine's clock is wrong, or the "
        "server's",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the certificate of {server} is not signed by this kit's ca.crt: the address is that of "
        "another server, or the kit is an old one",
    ),
    (
        "Hostname Verification",
        "the certificate of {server} is not for the name {host}: write the name that the operator "
        "has given as `server:` in agent.yaml",
    ),
    (
        "ALPN|WRONG_VERSION_NUMBER|handshake failed|Socket closed|Endpoint read failed|FD Shutdown",
        "{server} does not speak TLS as a Fleet port does: is the port right?",
    ),
    (
        "Connection refused",
        "nobody listens at {server}: is the server up (`backfire deploy status`), and the port "
        "right?",
    ),
    (
        "DNS|errors resolving|[Nn]ame or service not known|[Nn]ame resolution",
        "no machine is known here by the name {host}",
    ),
    (
        "timed out|[Tt]imeout|Deadline|DEADLINE|No route|unreachable|UNREACHABLE",
        "{server} does not answer: does a firewall drop it?",
    ),
    (
        "Invalid timestamp",
        "{server} refuses this machine's clock, which may be 5 minutes late and not early: set it",
    ),
    (
        "Invalid node ID|UNAUTHENTICATED|Invalid signature",
        "{server} no longer accepts this agent's key: its operator may have removed the agent",
    ),
)


# Trying again changes nothing about these.
_FINAL: Final = "CERTIFICATE_VERIFY_FAILED|Hostname Verification|ALPN|WRONG_VERSION_NUMBER"


def is_final(told: str) -> bool:
    """Return whether an error of the connection stays as it is when it is tried again."""
    return re.search(_FINAL, told) is not None


def explained(told: str, server: str) -> str:
    """Return what an error of the connection means.

    Args:
        told: What gRPC or Flower says.
        server: Host and port of the server.
    """
    host = server.rpartition(":")[0]
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, told):
            return meaning.format(server=server, host=host)
    line = printable(" ".join(told.split()), 300)
    return f"the connection to {server} failed: {line or 'no reason given'}"
