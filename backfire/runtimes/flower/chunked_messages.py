"""Messages in pieces, from senders that nobody trusts: counted, measured, and never waited for.

Flower sends a message as a tree of objects, each fetched by its SHA-256. Its own reader takes what
it is given. A hostile sender could name more pieces than can be fetched in an hour, send pieces
that fill the memory, name one piece a million times in one array (a bomb of a few kilobytes), hold
a piece back so that the reader waits for it, or put another header into the message than the one
that the SuperLink has checked. None of that works here.

Small arrays travel in bundles, which are made and opened here: whoever asks for a message to be
sent, and whoever is handed one, sees the arrays.

Private names of Flower, checked against 1.39.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flwr.app import ArrayRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.supercore.inflatable.inflatable_object import (
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)

from backfire.runtimes.flower.private import stamp_message_id
from backfire.runtimes.packed_arrays import Malformed, TooLarge, bundled, unbundle

# Flower cuts arrays into chunks of 5 MiB; nothing else that we send is nearly as large.
PIECE_BYTES: Final = 16 * 2**20
_MOST_OTHER = 4 * 2**20
_AT_ONCE = 4
_TURNS = 64

# An array that travels by itself takes two pieces: one says what it is, one has its bytes.
_PIECES_OF_AN_ARRAY = 2

__all__ = ["PIECE_BYTES", "Limits", "Malformed", "Parcel", "TooLarge", "as_sent"]


def as_sent(messages: Sequence[Message]) -> list[Message]:
    """Return messages as they travel, with their small arrays in bundles.

    What messages share, such as the model, they share afterwards. Each has the same header as
    before, not a copy of it: an id that is given to one is that of the other.
    """
    made: dict[int, ArrayRecord] = {}
    return [
        message
        if message.has_error()
        else make_message(message.metadata, content=_as_sent(message.content, made))
        for message in messages
    ]


def _as_sent(content: RecordDict, made: dict[int, ArrayRecord]) -> RecordDict:
    sent = RecordDict()
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            if id(record) not in made:
                made[id(record)] = bundled(record)
            record = made[id(record)]
        sent[name] = record
    return sent


@dataclass(frozen=True)
class Limits:
    """How large a message may be.

    Attributes:
        size: Bytes of all its pieces together, and of all its arrays together.
        pieces: Number of its pieces: records, arrays, chunks of arrays; an array in a bundle counts
            as two, as if it had come by itself.
    """

    size: int
    pieces: int


class Parcel:
    """A message of which the pieces come in one after the other.

    At most `Limits.size` bytes are held, and a few pieces that are under way.

    Args:
        message_id: The id of the message.
        tree: Its pieces, a message of Flower's protocol.
        limits: How large it may be.

    Raises:
        TooLarge: If it has too many pieces; not one has been fetched then.
    """

    def __init__(self, message_id: str, tree: Any, limits: Limits) -> None:  # noqa: ANN401
        names = [
            part.object_id
            for part in itertools.islice(iterate_object_tree(tree), limits.pieces + 1)
        ]
        if len(names) > limits.pieces:
            raise TooLarge(f"expected a message of at most {limits.pieces} pieces, got more")
        self._id, self._limits, self._held = message_id, limits, 0
        self._arrays = (limits.pieces - len(names)) // _PIECES_OF_AN_ARRAY
        self._missing = list(dict.fromkeys(reversed(names)))
        self._parts: dict[str, bytes] = {}

    def fetch(self, pull: Callable[[str], bytes]) -> bool:
        """Fetch some of the pieces that have arrived; return whether all have been fetched.

        Args:
            pull: Fetches a piece by its name; called by a few threads at a time.

        Raises:
            TooLarge: If the pieces have too many bytes.
            Malformed: If a piece can no longer be had.
        """
        at_once = 1  # where the first one has not arrived, no other is asked for
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in range(_TURNS):
                names = self._missing[-at_once:]
                try:
                    parts = list(pool.map(partial(_there, pull), names))
                except ObjectPullError as error:
                    raise Malformed(f"expected all pieces of a message: {error}") from None
                self._missing[-at_once:] = self._keep(names, parts)
                at_once = _AT_ONCE
                if not self._missing or None in parts:
                    break
        return not self._missing

    def _keep(self, names: Sequence[str], parts: Sequence[bytes | None]) -> list[str]:
        """Keep the pieces that are there; return the names of the others."""
        there = {n: part for n, part in zip(names, parts, strict=True) if part is not None}
        self._held += sum(len(part) for part in there.values())
        if self._held > self._limits.size or any(len(p) > PIECE_BYTES for p in there.values()):
            raise TooLarge(self._too_large())
        self._parts.update(there)
        return [name for name in names if name not in there]

    def open(self, metadata: Metadata | None = None) -> Message:
        """Return the message, once all its pieces are there.

        Args:
            metadata: Its header, as the SuperLink has checked it; by default the sender's own.

        Raises:
            TooLarge: If its arrays would have too many bytes.
            Malformed: If the pieces make no message.
        """
        try:
            if sum(_array_sizes(self._parts)) > self._limits.size:
                raise TooLarge(self._too_large())
            whole = inflate_object_from_contents(self._id, self._parts)
            if isinstance(whole, Message) and whole.has_content():
                unbundle(whole.content, self._arrays, self._limits.size)
        except (TooLarge, Malformed):
            raise
        except Exception as error:  # whatever hostile bytes make of Flower's reader
            name = type(error).__name__
            raise Malformed(f"expected a message, got {name} on reading it") from error
        if not isinstance(whole, Message):
            raise Malformed(f"expected a message, got a {type(whole).__name__}")
        if metadata is not None:
            said = {"error": whole.error} if whole.has_error() else {"content": whole.content}
            whole = make_message(metadata, **said)
        stamp_message_id(whole, self._id)
        return whole

    def _too_large(self) -> str:
        return f"expected a message of at most {self._limits.size / 2**20:.6g} MiB, got more"


def _there(pull: Callable[[str], bytes], name: str) -> bytes | None:
    try:
        return pull(name)
    except ObjectUnavailableError:
        return None


def _array_sizes(parts: dict[str, bytes]) -> Iterator[int]:
    """Yield the bytes of each array, before it is put together of its chunks."""
    for part in parts.values():
        kind, children, _ = get_object_head_values_from_object_content(part)
        if kind != "ArrayChunk" and len(part) > _MOST_OTHER:
            raise TooLarge(f"expected a record of at most {_MOST_OTHER} bytes, got {len(part)}")
        if kind == "Array":
            chunks = json.loads(part[part.index(b"\0") + 1 :])["arraychunk_ids"]
            yield sum(len(parts[children[at]]) for at in chunks)
