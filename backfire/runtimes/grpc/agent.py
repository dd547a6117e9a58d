"""An agent on a machine of its own: one lasting process that answers the server's messages.

It speaks gRPC to the SuperLink, under its key, and answers with the Backfire that is installed
here. The code that Flower sends along with a run is never run; of a run only its settings (the
scenario) are read.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from cryptography.x509 import load_pem_x509_certificates
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from grpc import RpcError

from backfire.runtimes.flower.client_api import Fleet, KeyInUse, LinkLost, Session, fleet
from backfire.runtimes.flower.server_api import FleetError, NotTaken
from backfire.runtimes.grpc.held_kit import HeldKit, PlaceTaken, place
from backfire.runtimes.guarded_grid import ECHO
from clients.agreement import AgreementRefused, App
from learning.wire import DECLINED, REFUSED

# An agent asks for messages again after a tenth of the time for which none has come, so that it
# adds a tenth at most to what a round takes; seconds.
_SHORTEST_POLL: Final = 0.02
_LONGEST_POLL: Final = 1.0
# Seconds between tries to reach a server that does not answer.
_FIRST_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 5.0
_RAISED = 2  # Flower's code for a ClientApp that raised

MakeApp = Callable[[str, str], App]
__all__ = ["ConnectionSettings", "Ended", "MakeApp", "Stop", "serve"]


@dataclass(frozen=True)
class ConnectionSettings:
    """How an agent connects.

    Attributes:
        name: Its name, for what is told; the server knows it by its key.
        server: Host and port of the Fleet API.
        key: Its private key, OpenSSH.
        ca: The certificate that the server's must be signed by.
        most: Largest message that it takes, in bytes.
        discreet: Whether the server is told no more of an error than its kind.
        kit: Folder that one process at a time may play with; None: any number.
    """

    name: str
    server: str
    key: Path
    ca: Path
    most: int
    discreet: bool = True
    kit: Path | None = None


class Ended(BaseException):
    """The agent was told to end, whatever it is doing. No `Exception`: no app holds it up."""


class Stopping(Protocol):
    """Tells whether an agent should end; a `threading.Event` will do."""

    def is_set(self) -> bool:
        """Return whether it should."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds until it should; return whether it should."""
        ...


class Stop:
    """Ends an agent at a signal, at once: what it is training is dropped, and it takes its leave.

    Unlike a `threading.Event` it can be set by the handler of a signal at any moment.
    """

    def __init__(self) -> None:
        self._asked = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Be the handler of a signal.

        Raises:
            Ended: The first time.
        """
        first, self._asked = not self._asked, True
        if first:
            raise Ended

    def is_set(self) -> bool:
        """Return whether a signal came."""
        return self._asked

    def wait(self, timeout: float) -> bool:
        """Wait; a signal ends it with `Ended`."""
        time.sleep(timeout)
        return self._asked


def serve(
    seat: ConnectionSettings,
    make_app: MakeApp,
    tell: Callable[[str], None],
    stop: Stopping,
    wait: float = 60.0,
) -> None:
    """Answer messages until told to stop, through every loss of the connection.

    Args:
        seat: How to connect.
        make_app: Makes the agent's app, given a run's scenario and what the table told of it.
        tell: Told what happens, one line at a time.
        stop: Ends the agent when it is set, after the message at hand; a `Stop` at once.
        wait: Seconds to go on trying to connect for the first time; a connection that was lost is
            tried for ever, unless the server answers and does not let the agent in for so long.

    Raises:
        FleetError: If the server cannot be reached, or does not let the agent in.
    """
    key, ca = _key(seat.key), _authority(seat.ca)
    nowhere = nullcontext(HeldKit(None, ""))
    try:
        with nowhere if seat.kit is None else place(seat.kit, seat.server) as own, suppress(Ended):
            _Service(seat, key, ca, make_app, tell, own, wait).run(stop)
    except PlaceTaken as error:
        raise FleetError(str(error)) from None


class _Service:
    """An agent from its first connection to its end."""

    def __init__(
        self,
        seat: ConnectionSettings,
        key: EllipticCurvePrivateKey,
        ca: bytes,
        make_app: MakeApp,
        tell: Callable[[str], None],
        own: HeldKit,
        wait: float,
    ) -> None:
        self._seat, self._key, self._ca, self._tell = seat, key, ca, tell
        self._place, self._wait = own, wait
        self._session = Session(own.session())
        self._agent = _Agent(seat, make_app, tell)
        self._let_in = False
        self._lost_at = time.monotonic()

    def run(self, stop: Stopping) -> None:
        tries = 0
        while not stop.is_set():
            inside = False
            try:
                with fleet(self._seat.server, self._ca, self._key, self._session) as link:
                    inside, tries = True, 0
                    self._connected()
                    self._answer(link, stop)
                self._place.keep(None)
            except FleetError as error:
                if inside and not isinstance(error, LinkLost):
                    raise
                tries += 1
                self._lost(error, tries)
                stop.wait(self._pause(tries))

    def _connected(self) -> None:
        again = f" again, after {time.monotonic() - self._lost_at:.0f} s" if self._let_in else ""
        self._tell(f"{self._seat.name} is connected to {self._seat.server}{again}")
        self._let_in = True
        self._place.keep(self._session.node_id)

    def _answer(self, link: Fleet, stop: Stopping) -> None:
        heard = time.monotonic()
        while not stop.is_set():
            if self._agent.answer(link):
                heard = time.monotonic()
            else:
                idle = (time.monotonic() - heard) / 10
                stop.wait(min(_LONGEST_POLL, max(_SHORTEST_POLL, idle)))

    def _lost(self, error: FleetError, tries: int) -> None:
        """Tell once why there is no connection; raise what does not pass, or lasts too long."""
        if tries == 1 and self._let_in:
            self._lost_at = time.monotonic()
        for_ever = self._let_in and isinstance(error, LinkLost)
        passes = self._let_in or isinstance(error, LinkLost | KeyInUse)
        late = time.monotonic() >= self._lost_at + self._wait
        if not passes or (late and not for_ever):
            raise error
        if tries == 1:
            self._tell(f"{error} (still trying{'' if for_ever else f', {self._wait:g} s'})")

    def _pause(self, tries: int) -> float:
        """Return how long to wait; agents that lost the same server come back one by one."""
        spread = 0.5 + zlib.crc32(self._seat.name.encode()) % 1000 / 1000
        return min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** min(tries - 1, 10)) * spread


class _Agent:
    """Answers messages, over whichever connection there is."""

    def __init__(
        self, seat: ConnectionSettings, make_app: MakeApp, tell: Callable[[str], None]
    ) -> None:
        self._seat, self._make, self._tell = seat, make_app, tell
        self._apps: dict[int, App] = {}
        self._asked: Message | None = None
        self._until = 0.0
        self._unsent: _Unsent | None = None
        self._clock = _Clock()

    def answer(self, link: Fleet) -> bool:
        """Answer one message, or send the answer that is left; return whether there was one."""
        if self._unsent is None:
            self._unsent = self._take(link)
        if self._unsent is None:
            return False
        if time.monotonic() < self._unsent.until:
            link.push(self._unsent.reply, self._unsent.seconds)
            self._tell(self._unsent.told)
        else:
            self._tell(f"too late, and not sent: {self._unsent.told}")
        self._unsent = None
        return True

    def _take(self, link: Fleet) -> _Unsent | None:
        """Return the answer to the next message; None where there is none to be answered."""
        began = time.monotonic()
        if began > self._until:
            self._asked = None
        try:
            message = self._asked = self._asked or self._next(link)
        except NotTaken as error:
            why = " (accept.max_message_mib of the agent)" if error.code == REFUSED else ""
            reply = Message(Error(error.code, f"{error}{why}"), reply_to=error.message)
            until = began + error.message.metadata.ttl
            return _Unsent(reply, f"took no message: {error}{why}", until, 0.0)
        if message is None:
            return None
        reply, told = self._reply(link, message)
        self._asked = None
        return _Unsent(reply, told, self._until, time.monotonic() - began)

    def _next(self, link: Fleet) -> Message | None:
        message = link.pull(self._seat.most)
        if message is None:
            return None
        if self._clock.late(message.metadata.created_at, message.metadata.ttl):
            self._tell(f"too late, and left alone: {message.metadata.message_type}")
            return None
        self._until = time.monotonic() + message.metadata.ttl
        return message

    def _reply(self, link: Fleet, message: Message) -> tuple[Message, str]:
        kind = message.metadata.message_type
        try:
            app = self._app(link, message.metadata.run_id)
            nonce = message.content.pop(ECHO, None)
            reply = app(message, _context(message, link.node_id))
            if reply.has_content() and isinstance(nonce, ConfigRecord):
                reply.content[ECHO] = nonce
            return reply, f"answered {kind}"
        except RpcError:
            raise
        except Exception as error:
            code, line, own = _explained(error, discreet=self._seat.discreet)
            return Message(Error(code, line), reply_to=message), f"refused {kind}: {own}"

    def _app(self, link: Fleet, run_id: int) -> App:
        if run_id not in self._apps:
            config = link.config(run_id)
            app = self._make(str(config.get("scenario", "")), str(config.get("table", "")))
            self._apps = {run_id: app}  # one game at a time
        return self._apps[run_id]


@dataclass(frozen=True)
class _Unsent:
    """An answer on its way.

    Attributes:
        reply: The answer.
        told: What is told when it was sent.
        until: When nobody waits for it any longer; of the monotonic clock.
        seconds: How long it took to make.
    """

    reply: Message
    told: str
    until: float
    seconds: float


class _Clock:
    """Tells whether a message comes too late, whatever the clocks of the two machines say.

    The message that came fastest so far is taken for one that came at once. So a process that was
    stopped with a message on its way to it leaves that message alone.
    """

    def __init__(self) -> None:
        self._fastest: float | None = None

    def late(self, created_at: float, seconds: float) -> bool:
        """Return whether a message took longer than it may.

        Args:
            created_at: When it was made, by the clock of its sender.
            seconds: How long it is waited for.
        """
        took = time.monotonic() - created_at
        fastest = took if self._fastest is None else min(took, self._fastest)
        late = took - fastest > seconds
        # Should the sender's clock have been set, one message is misjudged and no more.
        self._fastest = None if late else fastest
        return late


def _context(message: Message, node_id: int) -> Context:
    return Context(
        run_id=message.metadata.run_id,
        node_id=node_id,
        node_config={},
        state=RecordDict(),
        run_config={},
    )


def _explained(error: BaseException, *, discreet: bool) -> tuple[int, str, str]:
    """Return the code and the line that the server is told, and the line for the owner.

    Args:
        error: What went wrong.
        discreet: Whether the server is told nothing that may be the owner's secret: an error may
            name a file, a target, a value.
    """
    while not isinstance(error, AgreementRefused) and error.__cause__ is not None:
        error = error.__cause__  # Flower wraps what an app raises
    name, text = type(error).__name__, " ".join(str(error).split())[:500]
    if isinstance(error, AgreementRefused):
        return DECLINED, text, f"{text} ({error.own})" if error.own else text
    own = f"{name}: {text}"
    return _RAISED, f"{name}; its owner is told more" if discreet else own, own


def _key(file: Path) -> EllipticCurvePrivateKey:
    wanted = (
        f"expected the agent's private key, as `ssh-keygen -t ecdsa -b 384` makes it, in {file}"
    )
    try:
        key = load_ssh_private_key(file.read_bytes(), None)
    except OSError as error:
        raise FleetError(f"{wanted}, got: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FleetError(f"{wanted}, without a password; got another kind of file") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise FleetError(f"{wanted}, got a key of another kind")
    return key


def _authority(file: Path) -> bytes:
    wanted = f"expected the certificate that the kit came with in {file}"
    try:
        text = file.read_bytes()
        found = load_pem_x509_certificates(text)
    except OSError as error:
        raise FleetError(f"{wanted}, got: {error.strerror}") from None
    except ValueError:
        raise FleetError(f"{wanted}, got another kind of file") from None
    if max(one.not_valid_after_utc for one in found) < datetime.now(UTC):
        raise FleetError(f"{wanted}, got one that has expired: ask the operator for a new kit")
    return text
