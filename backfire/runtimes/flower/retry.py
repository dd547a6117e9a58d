"""The table's calls to the SuperLink: tried again while it does not answer, and the time counted.

Flower tries for ever and says nothing, and ends the process with a Ctrl-C where its run was given
up. Here the table learns of both: how long nothing could be carried (agents are given that time
back), and that it has to begin another run.

Private names of Flower, checked against 1.39.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import httpx
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 2
# How often in a row the SuperLink may fail, as where its database is busy, before the game does.
_FAILURES: Final = 8
_GIVEN_UP: Final = (401, 403)

__all__ = ["LinkDown", "Patience", "RequestRefused", "RunLost", "heartbeat", "passes", "plain"]


class LinkDown(RuntimeError):
    """The SuperLink does not answer; one line."""


class RequestRefused(RuntimeError):
    """The SuperLink answers, and does not do what it was asked for; one line."""


class RunLost(RuntimeError):
    """The SuperLink answers, and has given up this run; one line."""


class Patience:
    """Calls are tried again until the SuperLink answers.

    Args:
        seconds: For how long.

    Attributes:
        invoker: What Flower's client calls through.
    """

    def __init__(self, seconds: float) -> None:
        self._paused, self._since = 0.0, 0.0
        self._over, self._failures = threading.Event(), 0
        self.invoker = RetryInvoker(
            lambda: exponential(_FIRST_WAIT, 2, _LONGEST_WAIT),
            (httpx.TransportError, httpx.HTTPStatusError),
            max_tries=None,
            max_time=seconds,
            jitter=None,
            on_backoff=lambda _: self.down(),
            on_success=lambda _: self._up(),
            should_giveup=self._pointless,
            wait_function=self._rest,
        )

    @property
    def paused(self) -> float:
        """Seconds for which nothing could be carried, until now."""
        return self._paused + (time.monotonic() - self._since if self._since else 0.0)

    @contextmanager
    def once(self) -> Iterator[None]:
        """Try the calls of the body a single time."""
        self.invoker.max_tries = 1
        try:
            yield
        finally:
            self.invoker.max_tries = None

    def end(self) -> None:
        """Try nothing again from now on, in whichever thread."""
        self._over.set()

    def down(self) -> None:
        """Count from now on, until a call succeeds."""
        self._since = self._since or time.monotonic()

    def _rest(self, seconds: float) -> None:
        self._over.wait(seconds)

    def _up(self) -> None:
        self._failures = 0
        if self._since:
            self._paused, self._since = self.paused, 0.0

    def _pointless(self, error: Exception) -> bool:
        if isinstance(error, httpx.HTTPStatusError):
            self._failures += 1
        return self._over.is_set() or self._failures > _FAILURES or not passes(error)


def passes(error: Exception) -> bool:
    """Return whether a call that failed may succeed when it is tried again."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error
    told = str(error).lower()
    return isinstance(error, httpx.TransportError) and not ("certificate" in told or "ssl" in told)


@contextmanager
def plain(address: str) -> Iterator[None]:
    """Say in words of ours what goes wrong with calls to the SuperLink.

    Raises:
        LinkDown: If it did not answer.
        RunLost: If it has given up the run.
        RequestRefused: If it answers with another error.
    """
    try:
        yield
    except RunNotRunningException:
        raise RunLost(f"the SuperLink at {address} has ended the run") from None
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        if code in _GIVEN_UP:
            raise RunLost(f"the SuperLink at {address} has given up the run") from None
        raise RequestRefused(f"the SuperLink at {address} answers with the error {code}") from None
    except httpx.TransportError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LinkDown(
            f"the SuperLink at {address} does not answer: {reason}; bring it up (backfire deploy "
            "up), then go on with the run (backfire resume)"
        ) from None


def heartbeat(client: RuntimeHttpClient) -> Callable[[], bool]:
    """Return the function that says that the table lives, and whether it was heard.

    Where the run is given up there is nothing to be heard; the table learns of it by itself.
    """

    def beat() -> bool:
        try:
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except httpx.HTTPStatusError as error:
            return error.response.status_code in _GIVEN_UP
        except httpx.TransportError:
            return False
        return True

    return beat
