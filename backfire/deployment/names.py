"""Which names agents and hosts may have: safe as file names, in certificates and on a terminal."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from backfire.errors import UsageError
from scenarios.text.quoting import shown

_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
# Files of these names, whatever their ending, cannot be unpacked on Windows.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_SERVER = "server"


def agent_names(listed: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return agents' names in their order, each checked.

    Args:
        listed: The new names.
        taken: Names that exist already.

    Raises:
        UsageError: If a name cannot be a file name, or is there twice but for its case.
    """
    names = tuple(name.strip() for name in listed)
    if not names:
        raise UsageError("expected at least one agent, such as --agents alice,bob; got none")
    seen = {name.casefold() for name in taken}
    for name in names:
        _check_agent(name)
        if name.casefold() in seen:
            raise UsageError(f"expected a name of its own for each agent, got {shown(name)} twice")
        seen.add(name.casefold())
    return names


def _check_agent(name: str) -> None:
    if not _AGENT.fullmatch(name) or name.endswith(".") or _DEVICES.fullmatch(name):
        raise UsageError(
            "expected an agent's name of 1 to 63 letters, digits, dots, hyphens and underscores, "
            f"beginning with a letter or digit, got {shown(name)}"
        )
    if name.casefold() == _SERVER:
        raise UsageError(f"expected another name than that of the server, got {shown(name)}")


def host_name(text: str) -> str:
    """Return the name or address of a machine, checked and in its usual form.

    Raises:
        UsageError: If it is neither an IP address nor a DNS name in ASCII.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.removesuffix(".").split(".")
    numbers = re.fullmatch(r"[0-9.]+", text)
    if len(text) > 253 or numbers or not all(_LABEL.fullmatch(label) for label in labels):
        raise UsageError(
            "expected the name or the IP address of the server's machine, without a port, such as "
            f"table.example.org, got {shown(text)}"
        )
    return text.removesuffix(".").lower()


def reachable_name(text: str) -> str:
    """Return the name or address under which other machines reach this one, as `host_name` does.

    Raises:
        UsageError: If it is neither, or one that stands for "every address of this machine": who
            dials that reaches itself.
    """
    host = host_name(text)
    if _unspecified(host):
        raise UsageError(
            "expected the name or the IP address under which agents reach this machine, got "
            f"{shown(text)}, where each would reach itself (to listen on every address: "
            "--fleet-host)"
        )
    return host


def _unspecified(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_unspecified or (mapped is not None and mapped.is_unspecified)


def address(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
