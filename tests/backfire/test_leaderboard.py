"""Cards and the leaderboard: the right ranks, ties and flags; and cards that want harm."""

import csv
import json

import numpy as np
import pytest
from sweep_fixture import HOSTILE, rows, sweep, write

from backfire.evidence.card import (
    MAX_ENTRIES,
    AttackOnInputs,
    CardScore,
    _fits,
    card_of,
    read_card,
    write_card,
)
from backfire.evidence.published.sweep_table import read_sweep
from backfire.leaderboard.pages import build
from backfire.leaderboard.standings import benches, masks
from server.errors import RunFolderError


def carded(folder, **more):
    seeds = more.pop("seeds", 5)
    name = more.pop("name", "tiny")
    blocks = more.pop("blocks", {})
    chosen = sweep(name, seeds, **blocks)
    write(folder, chosen, rows(chosen, **more))
    return write_card(folder, card_of(*read_sweep(folder)))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return carded(tmp_path_factory.mktemp("cards") / "tiny")


@pytest.fixture(scope="module")
def card(path):
    return read_card(path)


def test_a_card_says_what_the_table_says(path, card):
    _, table = read_sweep(path.parent)
    assert (card.hash, card.seeds, card.games) == (table.digest, table.seeds, table.cells)
    assert len(card.entries) == 16
    for entry in card.entries[:4]:
        for score, found in entry.scores.items():
            values = {
                str(row.seed): row.value
                for row in table.rows
                if row.at == entry.at
                and (row.defender, row.score, row.agent) == (entry.defence.name, score, "")
                and row.group in ("", "malicious")
            }
            assert found.by_seed == values
            assert found.value == pytest.approx(sum(values.values()) / len(values))
    assert len({entry.bench.hash for entry in card.entries}) == 1
    assert len({entry.attack.hash for entry in card.entries}) == 8
    assert len({entry.defence.hash for entry in card.entries}) == 2
    assert "S1, Table 3" in card.finding


def test_a_card_names_the_attacks_on_inputs_that_were_scored(card):
    """The sweep plays two fast ones and a stepwise one."""
    for entry in card.entries:
        assert [(one.kind, one.epsilon) for one in entry.inputs] == [
            ("fgsm", 0.1),
            ("pgd", 0.1),
            ("fgsm", 0.2),
        ]


@pytest.mark.parametrize(
    ("score", "fits"),
    [
        ("asr", True),
        ("interference", True),
        ("work", False),
        ("trigger_shape_distance", False),
    ],
)
def test_only_shares_and_their_differences_find_room_on_a_card(score, fits):
    assert _fits(score) is fits


def test_the_same_sweep_gives_the_same_card_without_times_and_paths(path, tmp_path):
    again = carded(tmp_path / "tiny")
    assert again.read_bytes() == path.read_bytes()
    assert str(tmp_path) not in path.read_text()


def test_defences_are_ranked_by_their_worst_attack(card):
    (bench,) = benches([card])
    first, second = bench.standings
    assert [row.defence.name for row in bench.standings] == ["cutmix", "undefended"]
    assert [row.rank for row in bench.standings] == ["1", "2"]
    for row in (first, second):
        means = {attack: np.mean(list(met.by_seed.values())) for attack, met in row.met.items()}
        assert row.worst_case.value == pytest.approx(max(means.values()))
        assert means[row.worst] == max(means.values())
        assert row.flags == []


def test_what_cannot_be_told_apart_is_tied(tmp_path):
    alike = read_card(carded(tmp_path / "a", rates={"undefended": 0.6, "cutmix": 0.6}))
    (bench,) = benches([alike])
    assert [row.rank for row in bench.standings] == ["1=", "1="]


def test_attacks_on_other_benches_are_not_compared(tmp_path, card):
    training = {"training": {"epochs": 2}}
    other = read_card(carded(tmp_path / "b", name="other", blocks=training))
    assert len(benches([card, other])) == 2


def test_few_seeds_and_weak_attacks_are_flagged(tmp_path):
    few = read_card(carded(tmp_path / "few", seeds=3))
    assert all("few seeds" in row.flags for row in benches([few])[0].standings)
    weak = read_card(carded(tmp_path / "weak", untrained=1.0))
    (bench,) = benches([weak])
    assert set(bench.attacks) == bench.weak
    assert all("weak attack" in row.flags for row in bench.standings)


def test_an_attack_without_a_baseline_is_not_called_weak(card):
    def without(entry):
        scores = {k: v for k, v in entry.scores.items() if k != "asr_untrained"}
        return entry.model_copy(update={"scores": scores})

    entries = tuple(without(entry) for entry in card.entries)
    (bench,) = benches([card.model_copy(update={"entries": entries})])
    assert bench.unknown == set(bench.attacks)
    assert not bench.weak
    assert all(row.flags == ["no baseline"] for row in bench.standings)


def test_a_defence_that_missed_an_attack_is_not_ranked(card):
    kept = [
        entry
        for entry in card.entries
        if not (entry.defence.name == "cutmix" and entry.at["attackers"] == 5)
    ]
    (bench,) = benches([card.model_copy(update={"entries": tuple(kept)})])
    assert [(row.defence.name, row.rank) for row in bench.standings] == [
        ("undefended", "1"),
        ("cutmix", ""),
    ]
    assert bench.standings[1].flags == ["incomplete"]


def attack(kind, epsilon, values):
    score = CardScore(
        value=float(np.mean(values)),
        low=None,
        high=None,
        by_seed={str(seed): value for seed, value in enumerate(values)},
    )
    others = {"fgsm": "a" * 64, "pgd": "b" * 64}[kind]
    return AttackOnInputs(kind=kind, norm="linf", epsilon=epsilon, others=others, score=score)


@pytest.mark.parametrize(
    ("inputs", "masked"),
    [
        ([("fgsm", 0.1, 0.3), ("pgd", 0.1, 0.5)], True),
        ([("fgsm", 0.1, 0.5), ("pgd", 0.1, 0.3)], False),
        ([("fgsm", 0.1, 0.3), ("pgd", 0.2, 0.5)], False),
        ([("fgsm", 0.1, 0.5), ("fgsm", 0.2, 0.5)], True),
        ([("fgsm", 0.1, 0.5), ("fgsm", 0.2, 0.4)], False),
        ([("fgsm", 0.1, 0.0), ("fgsm", 0.2, 0.0)], False),
        ([("fgsm", 0.1, 0.3), ("pgd", 0.1, 0.301)], False),
    ],
)
def test_signs_of_gradient_masking(inputs, masked):
    wobble = np.array([-0.01, -0.005, 0.0, 0.005, 0.01])
    noise = {"fgsm": wobble, "pgd": wobble[::-1]}
    made = [
        attack(kind, epsilon, np.clip(mean + noise[kind], 0, 1).tolist())
        for kind, epsilon, mean in inputs
    ]
    assert masks(made) is masked


def test_the_page_and_the_table(path, tmp_path):
    made = build(path.parents[1], tmp_path / "out")
    page = made.page.read_text()
    assert "<script>" not in page
    assert HOSTILE not in page
    assert page.index("cutmix") < page.index("undefended")
    lines = list(csv.DictReader(made.table.read_text().splitlines()))
    assert len(lines) == 16
    worst = {line["defence"]: float(line["value"]) for line in lines if line["worst"] == "true"}
    assert worst["cutmix"] < worst["undefended"]
    again = build(path.parents[1], tmp_path / "again")
    assert again.page.read_bytes() == made.page.read_bytes()
    assert again.table.read_bytes() == made.table.read_bytes()


def changed(path, **fields):
    return json.dumps(json.loads(path.read_text()) | fields)


def bad_entry(path, **fields):
    data = json.loads(path.read_text())
    data["entries"][0] |= fields
    return json.dumps(data)


def small_entry(path):
    return json.loads(path.read_text())["entries"][0] | {"scores": {}, "inputs": []}


SHARE = {"value": 0.5, "low": 0.4, "high": 0.6}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: "",
        lambda path: "[" * 100_000,
        lambda path: '{"card": 1}',
        lambda path: changed(path, card=3),
        lambda path: changed(path, more="1"),
        lambda path: changed(path, extra=1),
        lambda path: changed(path, sweep="x" * 300),
        lambda path: changed(path, hash="../../etc"),
        lambda path: changed(path, entries=[small_entry(path)] * (MAX_ENTRIES + 1)),
        lambda path: bad_entry(path, scores={"asr_all": SHARE | {"by_seed": {"0": 1e9}}}),
        lambda path: bad_entry(path, scores={"asr_all": SHARE | {"by_seed": {"zero": 0.5}}}),
        lambda path: bad_entry(path, at={"n": [1]}),
    ],
)
def test_what_is_no_card_is_told_in_one_line_and_left_out(make, path, tmp_path):
    (tmp_path / "bad").mkdir()
    bad = tmp_path / "bad" / "card.json"
    bad.write_text(make(path))
    with pytest.raises(RunFolderError) as caught:
        read_card(bad)
    assert "\n" not in str(caught.value)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "card.json").write_bytes(path.read_bytes())
    made = build(tmp_path)
    assert (made.cards, len(made.refused)) == (1, 1)
    assert made.refused[0].startswith("bad/card.json: ")


def test_names_in_cards_stay_text(path, tmp_path):
    data = json.loads(path.read_text())
    for entry in data["entries"]:
        entry["defence"]["name"] = (
            "=cmd|' /C calc'!A0" if entry["defence"]["name"] == "cutmix" else HOSTILE
        )
    (tmp_path / "card.json").write_text(json.dumps(data))
    made = build(tmp_path)
    assert "<script>" not in made.page.read_text()
    assert ",'=cmd" in made.table.read_text()


def test_links_and_large_files_are_no_cards(path, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "card.json").symlink_to(path)
    with pytest.raises(RunFolderError, match="expected a folder with cards"):
        build(tmp_path)
    big = tmp_path / "big.json"
    big.write_bytes(path.read_bytes() + b" " * 1000)
    with pytest.raises(RunFolderError):
        read_card(big, limit=path.stat().st_size)
