"""T36: ten thousand mutations of valid scenarios; each is valid or told in lines with their place.

Four kinds of mutation, each from Hypothesis with a fixed seed: bytes, keys, values, and ``--set``.
"""

import copy
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.library import names
from scenarios.loader import ScenarioError, load, parse
from scenarios.text.yaml_reader import MAX_BYTES, read

SMALL = """\
name: fuzz
data: {kind: digits, train_rows: 900}
model: {kind: mlp}
training: {epochs: 3, optimizer: {kind: adam}}
defender_share: 1/4
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - name: mallory
    behaviour:
      kind: backdoor
      poison_rate: 2e-1
      target: {kind: shared, label: 3, share: 0.5}
      trigger: {kind: random_badnet, draw: per_row}
defenders: {none: [], "all of it": [{kind: agent_augmentation, agents: 4}, {kind: cutmix}]}
referee: {alone: all}
seed: 7
"""
# The small one more often: the cost of an example is the length of its text.
BASES = [SMALL, SMALL, SMALL, SMALL, names()["quickstart"].read_text(encoding="utf-8")]
PLACED = re.compile(r"\S*fuzz\.yaml(:\d+:\d+( \S.*)?: expected |: and \d+ more)")
AT_SET = re.compile(r"--set( \S.*)?: (expected |and \d+ more)|" + PLACED.pattern)

ODD_VALUES = [
    None, True, False, 0, -1, 1, 3, 0.5, 1.0, 1e308, 10**30, -(2**63), 2**63, float("inf"),
    float("nan"), "", " ", "no", "010", "8/255", "all", "random", "digits", "agent_indexing",
    "x" * 300, "\n", "\u202e", "\U0001f600", "os.system", [], {}, [[]], [None], {"kind": "digits"},
    {"kind": "benign"}, {"kind": None}, {"kind": []}, {"kind": "agent_indexing"}, {"": 0}, [1, 2],
]  # fmt: skip
ODD_KEYS = ["", "kind", "name", "epochs", "agents", "<<", "__class__", "model_config", "a\nb"]


def many(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def valid_or_told(play, pattern=PLACED):
    """Call `play`; what it refuses must be told with a place, what it takes must be replayable."""
    told = None
    try:
        scenario = play()
    except ScenarioError as error:
        told = error.lines
    if told is None:
        assert parse(json.dumps(scenario.resolved()), "resolved") == scenario
        return
    assert told
    for line in told:
        assert line.isprintable()
        assert pattern.match(line), line


def paths(value, at=()):
    yield at
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(item, (*at, key))


def at(data, path):
    for step in path:
        data = data[step]
    return data


DATA = [read(base).data for base in BASES]
INNER = [[path for path in paths(data) if path] for data in DATA]
MAPPINGS = [[p for p in paths(d) if isinstance(at(d, p), dict) and at(d, p)] for d in DATA]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "fuzz.yaml"


@st.composite
def mutated_bytes(draw):
    content = bytearray(draw(st.sampled_from(BASES)).encode())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content) - 1))
        length = draw(st.integers(0, 12))
        piece = bytes(content[start : start + length])
        match draw(st.integers(0, 5)):
            case 0:
                content[start] ^= 1 << draw(st.integers(0, 7))
            case 1:
                content[start] = draw(
                    st.sampled_from(b"\0\t\n\r #&*!|>'\"%@`{}[],:?-.=~\x1b\xff01e/")
                )
            case 2:
                del content[start : start + length]
            case 3:
                content[start:start] = piece * draw(st.integers(1, 4))
            case 4:
                target = draw(st.integers(0, len(content) - 1))
                content[target : target + length] = piece
            case 5:
                content[start:start] = draw(st.binary(max_size=8))
    return bytes(content)


def test_the_bases_are_valid(file):
    for base in BASES:
        file.write_text(base, encoding="utf-8")
        load(file)


@many(4000)
@given(content=mutated_bytes())
def test_mutated_bytes(file, content):
    assert len(content) <= MAX_BYTES
    file.write_bytes(content)
    valid_or_told(lambda: load(file))


@many(2000)
@given(data=st.data())
def test_mutated_keys(data):
    """Keys are swapped between mappings, renamed by a letter, replaced and moved."""
    number = data.draw(st.integers(0, len(BASES) - 1))
    scenario = copy.deepcopy(DATA[number])
    one = at(scenario, data.draw(st.sampled_from(MAPPINGS[number])))
    two = at(scenario, data.draw(st.sampled_from(MAPPINGS[number])))
    old = data.draw(st.sampled_from(sorted(one)))
    other = data.draw(st.sampled_from(sorted(two)))
    match data.draw(st.integers(0, 3)):
        case 0:
            one[other] = one.pop(old)
        case 1:
            place = data.draw(st.integers(0, len(old)))
            one[old[:place] + data.draw(st.sampled_from("aexz_ ")) + old[place + 1 :]] = one.pop(
                old
            )
        case 2:
            one[data.draw(st.sampled_from(ODD_KEYS))] = one.pop(old)
        case 3:
            two[old] = copy.deepcopy(one[old])
    valid_or_told(lambda: parse(json.dumps(scenario), "fuzz.yaml"))


@many(3000)
@given(data=st.data())
def test_mutated_values(data):
    """Values are replaced by odd ones, by one another, or taken away."""
    number = data.draw(st.integers(0, len(BASES) - 1))
    scenario = copy.deepcopy(DATA[number])
    for _ in range(data.draw(st.integers(1, 2))):
        left = [path for path in paths(scenario) if path]
        if not left:
            break
        *parent, last = data.draw(st.sampled_from(left))
        match data.draw(st.integers(0, 2)):
            case 0:
                at(scenario, parent)[last] = copy.deepcopy(data.draw(st.sampled_from(ODD_VALUES)))
            case 1:
                taken = at(DATA[number], data.draw(st.sampled_from(INNER[number])))
                at(scenario, parent)[last] = copy.deepcopy(taken)
            case 2:
                del at(scenario, parent)[last]
    text = json.dumps(scenario).replace("-Infinity", "-.inf")
    text = text.replace("Infinity", ".inf").replace("NaN", ".nan")
    valid_or_told(lambda: parse(text, "fuzz.yaml"))


@many(1000)
@given(data=st.data())
def test_mutated_overrides(data):
    number = data.draw(st.integers(0, len(BASES) - 1))
    path = data.draw(st.sampled_from(INNER[number]))
    text = ".".join(str(step) for step in path)
    value = json.dumps(data.draw(st.sampled_from(ODD_VALUES)))
    override = f"{text}={value}"
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(override)))
        override = override[:cut] + data.draw(st.text(max_size=3)) + override[cut + 1 :]
    valid_or_told(lambda: parse(BASES[number], "fuzz.yaml", [override]), AT_SET)
