"""Reads the small, safe part of YAML that a scenario needs, and remembers where everything stood.

Only PyYAML's reader, scanner and parser are used. There is no constructor, so that no file can
build anything but mappings, lists, text, numbers, booleans and null. Scalars follow the core
schema of YAML 1.2 (``no`` is text, ``1e-3`` is a number), with two differences: a number with a
leading zero is refused, since YAML 1.1 and 1.2 read it differently, and ``8/255`` is a number.
Refused with one line each: anchors and aliases, tags, duplicate keys, directives, a second
document, tabs and other characters that do not print, other encodings than UTF-8 without a byte
order mark, more than 32 levels, more than 100,000 values, more than 1 MiB.
"""

from __future__ import annotations

import codecs
import copy
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner
from yaml.tokens import Token

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 100_000
MAX_NUMBER_LENGTH: Final = 64

_TOO_DEEP: Final = f"expected at most {MAX_DEPTH} levels, got more"

Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
Plain = Any  # nested dict (with text keys), list and Scalar

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "a byte order mark"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Everything that YAML 1.2 or an editor might treat differently from us, or that does not print.
_REFUSED: Final = re.compile(
    "[\0-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)
_REFUSED_IN_VALUES: Final = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NAMED: Final = {"\0": "a NUL character", "\t": "a tab", "\ufeff": "a byte order mark"}
_BREAK: Final = re.compile("\r\n|\r|\n")

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_SPECIAL_FLOATS: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]+")
_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_FRACTION: Final = re.compile(r"([-+]?[0-9]+)/([0-9]+)")


class YamlError(Exception):
    """A text is not a document that we read.

    Attributes:
        message: ``expected ..., got ...``, one line.
        line: From 1; None where the whole file is meant.
        column: From 1, in characters.
        path: The value in which it happened, as far as known.
    """

    path: Path = ()

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Mark:
    """Where a key or value begins.

    Attributes:
        line: From 1.
        column: From 1, in characters.
        source: An unquoted scalar as it was written, else None.
    """

    line: int
    column: int
    source: str | None = None


@dataclass(frozen=True)
class Document:
    """What a text says, and where.

    Attributes:
        data: Nested dict (with text keys), list, str, int, float, bool and None.
        keys: For each path, where its key stands; list items have none.
        values: For each path, where its value begins.
    """

    data: Plain
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)

    def at(self, path: Path) -> Document:
        """Return a copy of what stands at a path, with its marks.

        Raises:
            LookupError: If nothing stands there.
        """
        data = self.data
        for step in path:
            data = data[step]
        keys, values = (
            {
                inner[len(path) :]: mark
                for inner, mark in marks.items()
                if inner[: len(path)] == path
            }
            for marks in (self.keys, self.values)
        )
        return Document(copy.deepcopy(data), keys, values)


def read_file(path: FilePath) -> str:
    """Read a scenario file as text, looking at its size before its content.

    Raises:
        YamlError: If it cannot be read, is not a plain file, is over 1 MiB, or is not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise YamlError("expected a file, got a folder or a device")
        if status.st_size > MAX_BYTES:
            raise YamlError(f"expected at most 1 MiB, got {status.st_size} bytes")
        with path.open("rb") as file:
            return decode(file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise YamlError(f"expected a file that can be read, got: {reason}") from None


def decode(content: bytes) -> str:
    """Return the text of a file's bytes.

    Raises:
        YamlError: If they are more than 1 MiB, or not UTF-8 without a byte order mark.
    """
    if len(content) > MAX_BYTES:
        raise YamlError(f"expected at most 1 MiB, got more than {MAX_BYTES} bytes")
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            raise YamlError(f"expected UTF-8 without a byte order mark, got {name}", 1, 1)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _position(content[: error.start].decode("utf-8"))
        byte = content[error.start]
        raise YamlError(f"expected UTF-8, got the byte 0x{byte:02x}", line, column) from None


def read(text: str) -> Document:
    """Read one document.

    Raises:
        YamlError: If the text is anything but one document of the kind described above.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"expected at most 1 MiB, got {len(text)} characters")
    _refuse_characters(text)
    events = _Events(text)
    try:
        return _Builder(events).document()
    except yaml.MarkedYAMLError as error:
        raise _described(error) from None
    except ReaderError as error:
        line, column = _position(text[: error.position])
        raise YamlError(f"expected printable text, got {error.reason}", line, column) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets a few of its own conversions fail, such as the escape "\UFFFFFFFF".
        message = f"expected valid YAML, got an unreadable value ({error})"
        raise YamlError(message, events.line + 1, events.column + 1) from None


def _refuse_characters(text: str) -> None:
    found = _REFUSED.search(text)
    if found is None:
        return
    line, column = _position(text[: found.start()])
    name = _NAMED.get(found[0], f"the character U+{ord(found[0]):04X}")
    hint = " (indent with spaces)" if found[0] == "\t" else ""
    raise YamlError(f"expected printable text, got {name}{hint}", line, column)


def _position(before: str) -> tuple[int, int]:
    lines = _BREAK.split(before)
    return len(lines), len(lines[-1]) + 1


def _described(error: yaml.MarkedYAMLError) -> YamlError:
    mark = error.problem_mark or error.context_mark
    parts = [part for part in (error.context, error.problem) if part]
    text = " ".join(", ".join(parts).split())
    if mark is None:
        return YamlError(f"expected valid YAML, got: {text}")
    return YamlError(f"expected valid YAML, got: {text}", mark.line + 1, mark.column + 1)


class _Events(Reader, Scanner, Parser):
    """PyYAML's parser without its composer, resolver and constructor."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def fetch_directive(self) -> None:
        mark = self.get_mark()
        raise YamlError("expected no directive, got '%'", mark.line + 1, mark.column + 1)

    def fetch_flow_collection_start(self, TokenClass: type[Token]) -> None:
        # The scanner looks up to 1,024 characters ahead of the events and takes quadratic time
        # there, so that brackets are counted here as well.
        if self.flow_level >= MAX_DEPTH:
            mark = self.get_mark()
            raise YamlError(_TOO_DEEP, mark.line + 1, mark.column + 1)
        super().fetch_flow_collection_start(TokenClass)


class _Builder:
    """Builds the plain data of one document from its events, with marks."""

    def __init__(self, events: _Events) -> None:
        self._stream = self._safe_events(events)
        self._out = Document(None)

    def document(self) -> Document:
        """Read the whole stream."""
        next(self._stream)  # stream start
        if not isinstance(next(self._stream), DocumentStartEvent):
            raise YamlError("expected a mapping, got an empty file", 1, 1)
        data = self._value(())
        next(self._stream)  # document end
        after = next(self._stream)
        if isinstance(after, DocumentStartEvent):
            raise _at(after, "expected one document, got a second one")
        return Document(data, self._out.keys, self._out.values)

    @staticmethod
    def _safe_events(events: _Events) -> Iterator[Event]:
        """Yield the events, refusing what is too deep or unsafe before it is built."""
        depth = 0
        while events.check_event():
            event: Event = events.get_event()  # type: ignore[no-untyped-call]
            if isinstance(event, AliasEvent):
                raise _at(event, f"expected no alias, got '*{str(event.anchor)[:40]}'")
            if isinstance(event, NodeEvent) and event.anchor is not None:
                raise _at(event, f"expected no anchor, got '&{event.anchor[:40]}'")
            if getattr(event, "tag", None) is not None:
                raise _at(event, f"expected no tag, got {_tag(event)}")
            if isinstance(event, SequenceStartEvent | MappingStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise _at(event, _TOO_DEEP)
            elif isinstance(event, SequenceEndEvent | MappingEndEvent):
                depth -= 1
            yield event

    def _value(self, path: Path, event: Event | None = None) -> Plain:
        """Build the value at a path.

        Args:
            path: Where it belongs.
            event: Its first event, where that has been taken from the stream already.
        """
        try:
            event = event or next(self._stream)
            self._out.values[path] = _mark(event)
            if len(self._out.values) > MAX_VALUES:
                raise _at(event, f"expected at most {MAX_VALUES} values, got more")
            return self._read(event, path)
        except YamlError as error:
            error.path = error.path or path
            raise

    def _read(self, event: Event, path: Path) -> Plain:
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        assert isinstance(event, ScalarEvent)  # noqa: S101 - all that the parser has left
        if event.style is not None:
            return _text(event)
        self._out.values[path] = _mark(event, event.value)
        return _plain_value(event)

    def _mapping(self, path: Path) -> dict[str, Plain]:
        out: dict[str, Plain] = {}
        while not isinstance(event := next(self._stream), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise _at(event, "expected a name as key, got a collection")
            key = _text(event)
            mark = _mark(event, key)
            if key in out:
                first = self._out.keys[(*path, key)]
                raise _at(
                    event,
                    f"expected each key once, got {key[:60]!r} again (first in line {first.line})",
                )
            self._out.keys[(*path, key)] = mark
            out[key] = self._value((*path, key))
        return out

    def _sequence(self, path: Path) -> list[Plain]:
        out: list[Plain] = []
        while not isinstance(event := next(self._stream), SequenceEndEvent):
            out.append(self._value((*path, len(out)), event))
        return out


def _at(event: Event, message: str) -> YamlError:
    mark = _mark(event)
    return YamlError(message, mark.line, mark.column)


def _mark(event: Event, source: str | None = None) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1, source) if start else Mark(1, 1, source)


def _tag(event: Event) -> str:
    tag = str(getattr(event, "tag", ""))
    return ascii(tag.replace("tag:yaml.org,2002:", "!!")[:60])


def _text(event: ScalarEvent) -> str:
    text = str(event.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        # JSON writes characters beyond U+FFFF as two escapes.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    found = _REFUSED_IN_VALUES.search(text)
    if found is not None:
        raise _at(event, f"expected printable text, got an escaped U+{ord(found[0]):04X} in it")
    return text


def _plain_value(event: ScalarEvent) -> Scalar:
    """Resolve an unquoted scalar by YAML 1.2's core schema and our two differences."""
    text = str(event.value)
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return _text(event)
    if _SPECIAL_FLOATS.fullmatch(text):
        return float(text.replace(".", ""))
    for pattern in (_INTEGER, _OTHER_BASE, _FLOAT, _FRACTION):
        if pattern.fullmatch(text):
            return _number(event, text)
    return _text(event)


def _number(event: ScalarEvent, text: str) -> int | float:
    if len(text) > MAX_NUMBER_LENGTH:
        raise _at(
            event, f"expected a number of at most {MAX_NUMBER_LENGTH} characters, got {len(text)}"
        )
    if _LEADING_ZERO.fullmatch(text):
        digits = str(int(text))
        hint = f"write {digits}, or '{text}' in quotes for text"
        raise _at(event, f"expected a number without leading zeros, got {text} ({hint})")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if fraction := _FRACTION.fullmatch(text):
        over, under = int(fraction[1]), int(fraction[2])
        if under == 0:
            raise _at(event, f"expected a fraction with a divisor above 0, got {text}")
        return over / under
    return float(text)
