"""Does the server answer, with the right certificate?"""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

from backfire.errors import DeployError, UsageError
from scenarios.text.quoting import printable, shown

_SECONDS = 5.0


def healthy(address: str, ca: Path) -> bool:
    """Return whether the Control API answers that it is well, with a certificate of ours."""
    host, port = split(address)
    context = _context(ca)
    link = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    try:
        link.request("GET", "/health")
        return link.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def reach(address: str, ca: Path) -> None:
    """Open a TLS connection to the Fleet port, as an agent does.

    Raises:
        DeployError: If it fails, with what to look at.
    """
    host, port = split(address)
    context = _context(ca)
    context.set_alpn_protocols(["h2"])  # gRPC's
    try:
        with (
            socket.create_connection((host, port), _SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host) as link,
        ):
            spoken = link.selected_alpn_protocol()
    except (OSError, ValueError) as error:
        raise DeployError(f"{printable(address)}: {_why(error)}") from None
    if spoken != "h2":
        raise DeployError(f"{printable(address)}: expected gRPC, got a server of another kind")


def split(address: str) -> tuple[str, int]:
    """Return the host and the port of an address.

    Raises:
        UsageError: If it is not ``HOST:PORT``.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(
            f"expected HOST:PORT, such as table.example.org:9443; got {shown(address)}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _context(ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=str(ca))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise UsageError(f"expected a CA certificate in {printable(str(ca))}: {reason}") from None
    return context


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted ({error.verify_message}): wrong ca.crt or name?"
    if isinstance(error, ssl.SSLError):
        return "it speaks no TLS"
    if isinstance(error, socket.gaierror):
        return "no machine of this name is known"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is the SuperLink up, and the port right?"
    if isinstance(error, TimeoutError):
        return "no answer; does a firewall drop it?"
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
