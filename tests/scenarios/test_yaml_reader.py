"""The YAML reader reads YAML 1.2's core scalars, refuses the rest, and knows where all stands."""

import json
import math
import os
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.text.yaml_reader import (
    MAX_BYTES,
    MAX_DEPTH,
    Mark,
    YamlError,
    _Events,
    decode,
    read,
    read_file,
)


def refused(text):
    with pytest.raises(YamlError) as caught:
        read(text) if isinstance(text, str) else read(decode(text))
    error = caught.value
    assert "\n" not in error.message
    return error


# T38: scalars that YAML 1.1 would read in another way, beside plain ones.
@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-1.5e+2", -150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("0", 0),
        ("-0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("0.10", 0.1),
        ("8/255", 8 / 255),
        ("-1/4", -0.25),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("1:2:3", "1:2:3"),
        ("1_000", "1_000"),
        ("0b101", "0b101"),
        ("2001-01-01", "2001-01-01"),
        ("1/2/3", "1/2/3"),
        ("0.5/255", "0.5/255"),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("=", "="),
        ("<<", "<<"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("nULL", "nULL"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("'010'", "010"),
        ('"1e-3"', "1e-3"),
        ("''", ""),
    ],
)
def test_scalars(source, value):
    document = read(f"key: {source}")
    got = document.data["key"]
    assert got == value
    assert type(got) is type(value)


def test_not_a_number_is_read_for_the_schema_to_refuse():
    assert math.isnan(read("key: .nan").data["key"])


def test_an_empty_value_is_null_and_block_text_keeps_its_breaks():
    assert read("a:\nb: |\n  x\n  y\n").data == {"a": None, "b": "x\ny\n"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("010", "expected a number without leading zeros, got 010 (write 10, or '010' in quotes"),
        ("-007", "expected a number without leading zeros, got -007 (write -7, or"),
        ("1/0", "expected a fraction with a divisor above 0, got 1/0"),
        ("9" * 65, "expected a number of at most 64 characters, got 65"),
        ("9" * 5000, "expected a number of at most 64 characters, got 5000"),
        ("1e" + "9" * 70, "expected a number of at most 64 characters, got 72"),
    ],
)
def test_ambiguous_and_outsized_numbers_are_refused(source, message):
    error = refused(f"a: 1\nlonger: {source}")
    assert error.message.startswith(message)
    assert (error.line, error.column, error.path) == (2, 9, ("longer",))


# T37, in its smaller forms: what is refused, and where.
@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: &x 1\nb: *x", (1, 4), "expected no anchor, got '&x'"),
        ("b: *x", (1, 4), "expected no alias, got '*x'"),
        ("a: 1\nb: 2\na: 3", (3, 1), "expected each key once, got 'a' again (first in line 1)"),
        ("{a: 1, 'a': 2}", (1, 8), "expected each key once, got 'a' again (first in line 1)"),
        ("a: !!str x", (1, 4), "expected no tag, got '!!str'"),
        ("a: ! x", (1, 4), "expected no tag, got '!'"),
        ("!!python/object/apply:os.system [x]", (1, 1), "expected no tag, got '!!python/object"),
        ("a: [1, !<x> {}]", (1, 8), "expected no tag, got 'x'"),
        ("%YAML 1.1\n---\na: 1", (1, 1), "expected no directive, got '%'"),
        ("%TAG ! x\n---\na: 1", (1, 1), "expected no directive, got '%'"),
        ("a: 1\n---\nb: 1", (2, 1), "expected one document, got a second one"),
        ("", (1, 1), "expected a mapping, got an empty file"),
        ("# nothing\n", (1, 1), "expected a mapping, got an empty file"),
        ("a: 1\nb:\t2", (2, 3), "expected printable text, got a tab (indent with spaces)"),
        ("a: 1\0", (1, 5), "expected printable text, got a NUL character"),
        ("\ufeffa: 1", (1, 1), "expected printable text, got a byte order mark"),
        ("a: \x1b[31m", (1, 4), "expected printable text, got the character U+001B"),
        ("a: x\u2028y", (1, 5), "expected printable text, got the character U+2028"),
        ("a: \ud800", (1, 4), "expected printable text, got the character U+D800"),
        ('a: "\\0"', (1, 4), "expected printable text, got an escaped U+0000 in it"),
        ('a: "\\x1b[0m"', (1, 4), "expected printable text, got an escaped U+001B in it"),
        ('a: "\\ud83d"', (1, 4), "expected printable text, got an escaped U+D83D in it"),
        ('"\\ud83d": 1', (1, 1), "expected printable text, got an escaped U+D83D in it"),
        ("? [a]\n: 1", (1, 3), "expected a name as key, got a collection"),
        ("a: [1, 2", (1, 9), "expected valid YAML, got: while parsing a flow sequence"),
        ("a: b: c", (1, 5), "expected valid YAML, got: mapping values are not allowed here"),
        ('a: "\\UFFFFFFFF"', (1, 7), "expected valid YAML, got an unreadable value"),
        (b"\xef\xbb\xbfa: 1", (1, 1), "expected UTF-8 without a byte order mark, got a byte"),
        ("a: 1".encode("utf-16"), (1, 1), "expected UTF-8 without a byte order mark, got UTF-16"),
        ("a: 1".encode("utf-32"), (1, 1), "expected UTF-8 without a byte order mark, got UTF-32"),
        ("a: 1".encode("utf-16-le"), (1, 2), "expected printable text, got a NUL character"),
        ("a: 1\nä: \xe4".encode("latin-1"), (2, 1), "expected UTF-8, got the byte 0xe4"),
    ],
)
def test_refused_with_place(text, place, message):
    error = refused(text)
    assert error.message.startswith(message)
    assert (error.line, error.column) == place


@pytest.mark.parametrize(
    ("opening", "place"),
    [("[", (1, 33)), ("{a: ", (1, 129)), ("- ", (1, 65)), ("[[{a: ", (1, 63))],
)
def test_depth_is_counted_before_anything_is_built(opening, place):
    error = refused(opening * 100_000)
    assert (error.message, (error.line, error.column)) == (
        f"expected at most {MAX_DEPTH} levels, got more",
        place,
    )


def test_the_scanner_itself_stops_at_the_limit():
    # Its look-ahead takes quadratic time, so it must not run on to its 1,024 characters.
    events = _Events("[" * 100_000)
    with pytest.raises(YamlError):
        list(iter(events.get_event, None))
    assert events.index <= MAX_DEPTH + 1


def test_exactly_the_limit_is_read():
    data = read("[" * MAX_DEPTH + "]" * MAX_DEPTH).data
    for _ in range(MAX_DEPTH - 1):
        (data,) = data
    assert data == []


def test_the_number_of_values_is_limited(monkeypatch):
    monkeypatch.setattr("scenarios.text.yaml_reader.MAX_VALUES", 50)
    assert len(read("[" + "1," * 49 + "]").data) == 49
    error = refused("[" + "1," * 400_000 + "]")
    assert error.message == "expected at most 50 values, got more"
    assert (error.line, error.column) == (1, 100)


def test_an_alias_bomb_is_refused_at_its_first_anchor():
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
    )
    assert (refused(bomb).line, refused(bomb).column) == (1, 5)


def test_marks_tell_where_keys_and_values_stand():
    document = read("a: 1e-3\nlist:\n  - {b: ' x'}\n  - no\n")
    assert document.data == {"a": 0.001, "list": [{"b": " x"}, "no"]}
    assert document.keys == {
        ("a",): Mark(1, 1, "a"),
        ("list",): Mark(2, 1, "list"),
        ("list", 0, "b"): Mark(3, 6, "b"),
    }
    assert document.values[("a",)] == Mark(1, 4, "1e-3")
    assert document.values[("list", 0)] == Mark(3, 5)
    assert document.values[("list", 0, "b")] == Mark(3, 9)
    assert document.values[("list", 1)] == Mark(4, 5, "no")


def test_keys_are_text_whatever_they_look_like():
    assert list(read("{1: a, null: b, 1e3: c, 8/255: d, 010: e}").data) == [
        "1", "null", "1e3", "8/255", "010"
    ]  # fmt: skip


def test_json_is_read():
    value = {"a": [1, 2.5e-08, None, True, "ünï 😀 \n"], "b": {"c": "x/y"}, "d": []}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert read(text).data == value


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("abz 019.:/-é'\"#&*!%@`,[]{}\n", max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abz019 :#-", min_size=1, max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(plain)
def test_whatever_json_writes_is_read_back(value):
    assert read(json.dumps(value)).data == value


@settings(max_examples=200, derandomize=True, deadline=None)
@given(plain)
def test_structures_are_read_as_pyyaml_reads_them(value):
    # All scalars quoted: there the two schemas agree.
    text = yaml.safe_dump(value, default_style='"')
    untagged = text.replace("!!null ", "").replace("!!bool ", "")
    untagged = untagged.replace("!!int ", "").replace("!!float ", "")
    expected = yaml.safe_load(untagged)
    assert read(untagged).data == _text_keys(expected)


def _text_keys(value):
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def test_a_large_file_is_refused_by_its_size_alone(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(YamlError, match=r"expected at most 1 MiB, got 104857600 bytes"):
        read_file(path)
    with pytest.raises(YamlError, match="expected at most 1 MiB"):
        decode(b"#" * (MAX_BYTES + 1))
    with pytest.raises(YamlError, match="expected at most 1 MiB"):
        read("#" * (MAX_BYTES + 1))


@pytest.mark.parametrize("name", ["absent.yaml", ".", "x" * 300, "nul\0"])
def test_what_is_no_readable_file_is_refused(tmp_path, name):
    with pytest.raises(YamlError, match=r"^expected a file"):
        read_file(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(YamlError, match="got a folder or a device"):
        read_file(tmp_path / "pipe.yaml")
