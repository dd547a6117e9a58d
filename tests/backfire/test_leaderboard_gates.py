"""What a defence must keep to be ranked: a dead one never comes first, noise bars nobody."""

import csv
import json
import re
import shlex
from concurrent.futures import Future

import numpy as np
import pytest
from card_fixture import card, defended, entry
from typer.testing import CliRunner

from backfire.cli.main import app
from backfire.evidence.card import read_card, write_card
from backfire.evidence.estimates import SHARE, estimate
from backfire.leaderboard.gates import (
    ATTACKED,
    CLEAN,
    DESTROYED,
    DOUBT,
    REMOVED,
    UNLEARNT,
    Evidence,
    answers,
    costs_too_much,
)
from backfire.leaderboard.pages import build
from backfire.leaderboard.scatter import scatter
from backfire.leaderboard.standings import DEAD_REFERENCE, EDGE, NO_REFERENCE, benches
from backfire.leaderboard.standings import REMOVED as REMOVED_SCORE
from backfire.leaderboard.words import nobody, reasons
from backfire.reporting.charts.scatter import ScatterPoint, scatter_chart
from backfire.reporting.text import sentence
from backfire.sweeps.workers import play_task
from server.errors import RunFolderError

WOBBLE = (0.0, 0.01, -0.01, 0.005, -0.005)


def around(mean, seeds=5, noise=1.0):
    """Values of seeds: each mean has noise in an order of its own, as each game has its own."""
    order = np.random.default_rng(round(mean * 1e4)).permutation(5)
    return [float(np.clip(mean + noise * WOBBLE[k], 0, 1)) for k in order[:seeds]]


def by_name(*entries, **more):
    (bench,) = benches([card(*entries, **more)])
    return bench, {row.defence.name: row for row in bench.standings}


def healthy(seeds=5):
    return [
        defended("undefended", around(0.95, seeds), around(0.94, seeds), around(0.9, seeds)),
        defended("works", around(0.945, seeds), around(0.935, seeds), around(0.1, seeds)),
    ]


def knowing(constant, *entries):
    """Return entries that know the best constant answer's accuracy, in each of their seeds."""
    return [
        one.model_copy(
            update={
                "scores": one.scores
                | entry(
                    "x", constant_accuracy=dict.fromkeys(one.scores["asr"].seeds, constant)
                ).scores
            }
        )
        for one in entries
    ]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_beside_a_dead_undefended_model_nobody_is_ranked(seeds):
    # Case leaderboard-dead-defence, where the reference is as dead as the defence: both pass
    # every limit that is set by the reference.
    both = [
        defended("undefended", around(0.12, seeds), around(0.12, seeds), around(0.9, seeds)),
        defended("dead", around(0.11, seeds), around(0.11, seeds), [0.0] * seeds),
    ]
    _, rows = by_name(*both)  # an old card does not tell
    assert rows["dead"].rank.startswith("1")
    bench, rows = by_name(*knowing(0.1, *both))
    assert [row.rank for row in bench.standings] == ["", ""]
    assert all({DEAD_REFERENCE, UNLEARNT, DESTROYED} <= set(row.flags) for row in rows.values())
    living = defended("living", around(0.9, seeds), around(0.9, seeds), [0.0] * seeds)
    bench, rows = by_name(*knowing(0.1, *both, living))
    # Nobody knows what an attack does to a model of this bench: not even a living one is ranked.
    assert (rows["living"].rank, rows["living"].flags[0]) == ("", DEAD_REFERENCE)
    assert UNLEARNT not in rows["living"].flags


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_a_dead_defence_beside_a_reference_that_learnt_a_little_is_not_ranked(seeds):
    # A few points below, which noise may explain: the reference cannot tell, the constant does.
    undefended = defended("undefended", [0.24] * seeds, [0.24] * seeds, around(0.9, seeds))
    for free, attacked, flags in (
        (0.18, 0.18, [UNLEARNT, DESTROYED]),
        (0.23, 0.18, [DESTROYED]),
        (0.23, 0.2, []),
    ):
        wide = (
            ([free - 0.06, free + 0.06] * 3)[:seeds] if flags[:1] == [UNLEARNT] else [free] * seeds
        )
        one = defended("one", wide, [attacked] * seeds, [0.0] * seeds)
        bench, rows = by_name(*knowing(0.1, undefended, one))
        assert [flag for flag in rows["one"].flags if flag in (UNLEARNT, DESTROYED)] == flags
        if flags:
            assert rows["one"].rank == ""
        assert rows["undefended"].rank != ""
        assert nobody(bench) == ""


@pytest.mark.parametrize(
    ("constant", "free", "ranked"),
    [
        (0.01, 0.2, True),
        (0.01, 0.10, False),
        (0.1, 0.2, True),
        (0.1, 0.18, False),
        (0.9, 0.9, False),
    ],
)
def test_hard_data_are_no_dead_model(constant, free, ranked):
    # 20 % of a hundred classes alike are far above the 1 % of a constant answer.
    bench, rows = by_name(
        *knowing(
            constant,
            defended("undefended", [free] * 3, [free] * 3, around(0.9, 3)),
            defended("works", [free] * 3, [free] * 3, around(0.1, 3)),
        )
    )
    assert [bool(row.rank) for row in bench.standings] == [ranked, ranked]
    assert rows["works"].flags == ([] if ranked else [DEAD_REFERENCE, UNLEARNT, DESTROYED]) + [
        "few seeds"
    ]


@pytest.mark.parametrize(
    ("free", "ranked"),
    [
        ([0.9, 0.9, 0.1, 0.1, 0.1], False),  # above on the mean, but most seeds are dead
        ([0.9, 0.9, 0.9, 0.1, 0.1], True),
        ([0.9, 0.1], True),
        ([0.2, 0.16], False),  # half are above by a hair, not the mean
        ([0.19, 0.19], False),  # no rounding decides
    ],
)
def test_neither_a_lucky_seed_nor_a_failed_one_decides(free, ranked):
    bench, _ = by_name(*knowing(0.1, defended("undefended", free, [0.9] * len(free), free)))
    assert bool(bench.standings[0].rank) == ranked
    assert bool(bench.unlearnt) != ranked


def test_a_reference_that_is_dead_beside_one_attack_voids_the_bench():
    games = [
        defended(name, [free] * 5, [free] * 5, around(0.5), attack=attack)
        for attack, free in (("few", 0.9), ("many", 0.12))
        for name in ("undefended", "works")
    ]
    bench, _ = by_name(*knowing(0.1, *games))
    assert [row.rank for row in bench.standings] == ["", ""]
    assert nobody(bench).startswith(
        "nobody is ranked: undefended, the model has not learnt without attackers beside many: "
    )
    alive = [one for one in games if one.attack.name == "few"]
    assert [row.rank != "" for row in by_name(*knowing(0.1, *alive))[0].standings] == [True, True]


def test_old_cards_stay_as_they_are():
    # Only the undefended games know the constant answer: nothing is asked of the others.
    dead = defended("dead", around(0.1), around(0.1), [0.0] * 5)
    bench, rows = by_name(*knowing(0.1, healthy()[0]), healthy()[1], dead)
    assert rows["works"].rank == "1"
    assert rows["dead"].flags == [CLEAN, ATTACKED]
    assert bench.unlearnt == {}


def test_a_dead_bench_says_so_once_on_the_page_and_on_the_terminal(tmp_path):
    both = [
        defended("undefended", [0.12] * 5, [0.12] * 5, around(0.9)),
        defended("dead", [0.11] * 5, [0.11] * 5, [0.0] * 5),
    ]
    line = (
        "nobody is ranked: undefended, the model has not learnt without attackers: clean accuracy "
        "is 12.0 %, with 5 of 5 seeds not above 19.0 % (the best constant answer has 10.0 %)"
    )
    made = written(tmp_path, card(*knowing(0.1, *both), name="s"))
    assert made.page.read_text().count(f"<p><b>{sentence(line)}</b></p>") == 1
    told = CliRunner().invoke(app, ["leaderboard", str(tmp_path)]).output.splitlines()
    assert told.count(f"  {line}") == 1
    found = json.loads(CliRunner().invoke(app, ["leaderboard", str(tmp_path), "--json"]).output)
    assert found["benches"][0]["nobody_ranked"] == line
    assert found["benches"][0]["standings"][0]["reasons"][0].startswith(
        "not ranked: the model has not learnt without attackers: clean accuracy is 1"
    )
    for where in ("healthy", "old"):
        (tmp_path / where).mkdir()
    for where, entries in (("healthy", knowing(0.1, *healthy())), ("old", both)):
        quiet = written(tmp_path / where, card(*entries))
        assert "nobody is ranked: undefended, " not in quiet.page.read_text()


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_a_dead_defence_is_never_first(seeds):
    # Case leaderboard-dead-defence: a model at chance has no backdoor, and was rank 1.
    dead = [
        defended("never-learns", around(0.1, seeds), around(0.1, seeds), [0.0] * seeds),
        # Alive without attackers: the attack alone destroys it.
        defended("gives-way", around(0.95, seeds), around(0.1, seeds), [0.0] * seeds),
        # The other face: the constant answer is the target.
        defended("constant", around(0.1, seeds), around(0.1, seeds), [1.0] * seeds),
        # Learns for some seeds only.
        defended("collapses", [0.95, 0.1, 0.95, 0.95, 0.1][-seeds:], [0.1] * seeds, [0.0] * seeds),
    ]
    bench, rows = by_name(*dead, *healthy(seeds))
    assert [row.defence.name for row in bench.standings[:2]] == ["works", "undefended"]
    assert rows["works"].rank.startswith("1")
    for name in ("never-learns", "gives-way", "constant", "collapses"):
        assert rows[name].rank == ""
        assert {CLEAN, ATTACKED} & set(rows[name].flags)
    assert CLEAN not in rows["gives-way"].flags
    assert ATTACKED in rows["gives-way"].flags


def test_the_page_says_which_gate_failed_and_by_how_much():
    bench, rows = by_name(
        *healthy(), defended("dead", around(0.1), around(0.12), [0.0] * 5), name="s"
    )
    assert reasons(rows["dead"], bench) == [
        "not ranked: clean accuracy without attackers is 10.0 %; at least 93.0 % is asked "
        "(undefended without attackers 95.0 %, less 2 points) (mean over 5 seeds)",
        "not ranked: clean accuracy under backdoor is 12.0 %; at least 90.0 % is asked "
        "(undefended without attackers 95.0 %, less 5 points) (mean over 5 seeds)",
    ]
    assert reasons(rows["works"], bench) == []


@pytest.mark.parametrize(
    ("free", "attacked", "barred"),
    [
        (0.931, 0.931, []),
        (0.925, 0.925, [CLEAN]),  # by half a point, but surely so
        (0.95, 0.901, []),
        (0.95, 0.895, [ATTACKED]),
        (1.0, 1.0, []),
    ],
)
def test_the_margins_are_two_points_and_five(free, attacked, barred):
    pair = [
        defended("undefended", *(around(mean, noise=0.2) for mean in (0.95, 0.95, 0.9))),
        defended("one", *(around(mean, noise=0.2) for mean in (free, attacked, 0.2))),
    ]
    _, rows = by_name(*pair)
    assert rows["one"].flags == barred
    assert bool(rows["one"].rank) == (not barred)


def test_what_noise_may_explain_keeps_its_rank_and_a_flag():
    # 4 points below the limit on the mean, but one seed of three lies above it.
    pair = [
        defended("undefended", [0.95] * 3, [0.95] * 3, around(0.9, 3)),
        defended("one", [0.94] * 3, [0.8, 0.95, 0.83], around(0.2, 3)),
    ]
    bench, rows = by_name(*pair)
    assert EDGE in rows["one"].flags
    assert rows["one"].rank
    assert reasons(rows["one"], bench)[0].startswith("at the edge: clean accuracy under backdoor")


def draws(rng, cost, attacked_cost, noise, seeds):
    """One made-up defence: each game of it and of the undefended one has noise of its own."""
    undefended = 0.93 + noise * rng.standard_normal(seeds)
    free = 0.93 - cost + noise * rng.standard_normal(seeds)
    attacked = 0.93 - attacked_cost + noise * rng.standard_normal(seeds)
    return Evidence(*(dict(enumerate(x)) for x in (free, attacked, [], undefended)))


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("cost", "attacked_cost", "noise", "most"),
    [
        (0.0, 0.0, 0.02, 0.003),  # a good one
        (0.02, 0.05, 0.02, 0.05),  # one on both limits
        (0.0, 0.0, 0.04, 0.045),  # a good one on 50 test inputs: 0.019 with one seed, else 0.005
    ],
)
def test_seeds_noise_bars_no_good_defence(cost, attacked_cost, noise, most, seeds):
    rng = np.random.default_rng(seeds)
    games = [draws(rng, cost, attacked_cost, noise, seeds) for _ in range(200 if seeds < 5 else 80)]
    barred = [any(a.grade == "failed" for a in answers({"a": game})) for game in games]
    assert np.mean(barred) <= most


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_noise_saves_no_dead_defence(seeds):
    rng = np.random.default_rng(seeds)
    games = [draws(rng, 0.6, 0.6, 0.1, seeds) for _ in range(60)]
    assert all(any(a.grade == "failed" for a in answers({"a": game})) for game in games)


def test_a_doubtful_gap_is_graded_by_its_size_and_its_seeds():
    asked = dict.fromkeys(range(2), 0.95)
    for gap, grade in ((DOUBT - 0.01, "at the edge"), (DOUBT + 0.01, "failed")):
        values = dict.fromkeys(range(2), 0.95 - 0.05 - gap)
        (found,) = answers({"a": Evidence({}, values, {}, asked)})
        assert (found.gate, found.grade, found.seeds) == (ATTACKED, grade, 2)
        assert found.value == pytest.approx(0.9 - gap)
        assert found.limit == pytest.approx(0.9)
        assert found.beyond == pytest.approx(gap)


def test_accuracy_is_paired_by_seed():
    # Seeds differ by far more than the defence costs, which is 8 points in each of them.
    undefended = {0: 0.95, 1: 0.75, 2: 0.55, 3: 0.85}
    free = {seed: value - 0.08 + WOBBLE[seed] / 2 for seed, value in undefended.items()}
    (found,) = answers({"a": Evidence(free, {}, {}, undefended)})
    assert found.grade == "failed"
    # Seeds that were not played undefended have the mean one; here noise may be why.
    apart = {seed + 10: value for seed, value in free.items()}
    (found,) = answers({"a": Evidence(apart, {}, {}, undefended)})
    assert found.grade == "at the edge"
    assert found.limit == pytest.approx(0.755)


@pytest.mark.parametrize(("mean", "barred"), [(0.05, False), (0.2, False), (0.24, True)])
def test_a_rule_that_removes_honest_agents_is_not_ranked(mean, barred):
    removing = defended("rule", around(0.95), around(0.95), around(0.05), game="federated")
    shares = entry("x", honest_removed=around(mean, noise=0.3)).scores
    removing = removing.model_copy(update={"scores": {**removing.scores, **shares}})
    plain = defended("undefended", around(0.95), around(0.95), around(0.9), game="federated")
    bench, rows = by_name(removing, plain)
    assert (REMOVED in rows["rule"].flags) == barred
    assert bool(rows["rule"].rank) != barred
    if barred:
        assert reasons(rows["rule"], bench) == [
            "not ranked: 24.0 % of the honest agents' updates were removed under backdoor; at most "
            "20.0 % may be (mean over 5 seeds)"
        ]


@pytest.mark.parametrize("name", ["undefended", "mean"])
def test_the_plain_mean_is_undefended_too(name):
    _, rows = by_name(
        defended(name, around(0.95), around(0.95), around(0.9)),
        defended("dead", around(0.1), around(0.1), [0.0] * 5),
        defended("works", around(0.95), around(0.95), around(0.1)),
    )
    assert [rows[one].rank for one in ("works", name, "dead")] == ["1", "2", ""]


def test_without_an_undefended_game_nobody_is_ranked_and_the_page_says_why():
    alone = [defended("dead", around(0.1), around(0.1), [0.0] * 5), healthy()[1]]
    _, rows = by_name(*alone)
    assert [rows[name].rank for name in ("dead", "works")] == ["", ""]
    assert all(NO_REFERENCE in row.flags for row in rows.values())


def test_the_reference_is_that_of_the_same_attack_and_else_of_any():
    # With other agents the game without attackers is another game.
    def both(name, free, asr):
        return [
            defended(name, around(free[k]), around(free[k]), around(asr), attack=f"a{k}")
            for k in (0, 1)
        ]

    _, rows = by_name(*both("undefended", (0.95, 0.7), 0.9), *both("one", (0.945, 0.695), 0.1))
    assert rows["one"].flags == []
    played = [*both("undefended", (0.95, 0.7), 0.9)[:1], *both("one", (0.945, 0.695), 0.1)]
    _, rows = by_name(*played)
    assert ATTACKED in rows["one"].flags
    assert rows["undefended"].flags == ["incomplete"]


@pytest.mark.parametrize(
    ("cost", "costly"), [(0.0, False), (0.045, False), (0.08, True), (0.3, True)]
)
def test_an_attack_that_costs_too_much_is_no_backdoor(cost, costly):
    # The attack of the case costs the undefended model 17 to 21 points.
    bench, rows = by_name(
        defended("undefended", around(0.95), around(0.95 - cost), around(0.9)),
        defended("works", around(0.95), around(0.95), around(0.1)),
    )
    assert bool(bench.costly) == costly
    assert ("no backdoor" in rows["works"].flags) == costly
    assert rows["works"].rank.startswith("1")


def test_noise_makes_no_attack_costly():
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 3, 5):
        found = [
            costs_too_much(
                *(dict(enumerate(0.93 + 0.02 * rng.standard_normal(seeds))) for _ in "ab")
            )
            for _ in range(100)
        ]
        assert not any(found)


def test_intervals_stay_inside_the_scores_range(tmp_path):
    # Two seeds far apart: -87 to 167 % was printed.
    two = [
        defended("undefended", [0.95, 0.94], [0.95, 0.94], [0.1, 0.9]),
        defended("other", [0.9, 1.0], [0.94, 0.95], [0.0, 0.8]),
    ]
    made = written(tmp_path, card(*two))
    ends = re.findall(r">(-?[\d.]+) to (-?[\d.]+)", made.page.read_text())
    assert ("0.0", "100.0") in ends
    assert all(0 <= float(end) <= 100 for pair in ends for end in pair)
    for line in csv.DictReader(made.table.read_text().splitlines()):
        assert 0 <= float(line["low"]) <= float(line["high"]) <= 1


def written(folder, *cards):
    for number, one in enumerate(cards):
        (folder / str(number)).mkdir()
        write_card(folder / str(number), one)
    return build(folder)


def test_the_card_of_a_sweep_of_one_seed_is_read_back(tmp_path):
    # It has no interval, and a card leaves out what it has not.
    one = card(*healthy(seeds=1))
    assert read_card(write_card(tmp_path, one)) == one


def test_an_old_card_is_read_and_says_what_it_lacks(tmp_path):
    def games(game):
        return [one.model_copy(update={"bench": entry("x", game=game).bench}) for one in healthy()]

    made = written(tmp_path, card(*games("federated"), *games("pooled"), version=1))
    old = json.loads((tmp_path / "0" / "card.json").read_text())
    for one in old["entries"]:
        del one["work"]
        for part in ("bench", "attack", "defence"):
            del one[part]["says"]
    (tmp_path / "0" / "card.json").write_text(json.dumps(old))
    again = build(tmp_path)
    assert (again.cards, again.refused) == (1, [])
    for found in (made, again):
        federated, pooled = found.benches
        assert [row.rank for row in federated.standings] == ["1", "2"]
        assert all("old card" in row.flags for row in federated.standings)
        # In a pooled game no rule removes agents.
        assert not any("old card" in row.flags for row in pooled.standings)
    assert [row.work for row in again.benches[0].standings] == [None, None]


def test_a_card_of_a_later_version_is_refused_in_one_clear_line(tmp_path):
    path = write_card(tmp_path, card(*healthy()))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"card": 3}))
    with pytest.raises(RunFolderError, match="expected a card of version 1 to 2, got another"):
        read_card(path)


@pytest.mark.parametrize(("name", "value"), [("asr", -0.1), ("asr_all", 1.5), ("work", 0.5)])
def test_scores_out_of_range_are_no_card(tmp_path, name, value):
    path = write_card(tmp_path, card(*healthy()))
    data = json.loads(path.read_text())
    data["entries"][0]["scores"]["interference"] = {"value": -0.1, "by_seed": {"0": -0.1}}
    path.write_text(json.dumps(data))
    read_card(path)
    data["entries"][0]["scores"][name] = {"value": value, "by_seed": {"0": value}}
    path.write_text(json.dumps(data))
    if name == "work":
        read_card(path)  # an amount that happens to fit
        return
    with pytest.raises(RunFolderError) as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


def test_a_sweep_without_backdoors_ranks_nobody(tmp_path):
    made = written(tmp_path, card(*healthy()), card(*healthy(), score="clean_accuracy", name="b"))
    assert (made.cards, len(made.benches)) == (1, 1)
    assert made.refused == [
        "1/card.json: its score is clean_accuracy; defences are ranked by asr, asr_all, asr_source"
    ]


def test_the_table_says_what_a_row_costs_and_why_it_is_not_ranked(tmp_path):
    dead = defended("dead", around(0.1), around(0.1), [0.0] * 5)
    made = written(tmp_path, card(*healthy(), dead, name="s"))
    lines = {line["defence"]: line for line in csv.DictReader(made.table.read_text().splitlines())}
    assert {line["work"] for line in lines.values()} == {"1.0"}
    assert lines["dead"]["rank"] == ""
    assert lines["dead"]["flags"] == f"{CLEAN}; {ATTACKED}"
    assert "10.0 %; at least 93.0 % is asked" in lines["dead"]["reasons"]
    assert lines["works"]["reasons"] == ""
    assert lines["works"]["replay"] == "backfire sweep s/sweep.yaml --only attack=backdoor"
    page = made.page.read_text()
    assert page.count("not ranked: clean accuracy") == 2
    assert "backfire sweep s/sweep.yaml --only attack=backdoor" in page


def test_a_command_of_a_hostile_card_holds_one_value_only(tmp_path):
    wild = entry("undefended", attack="x; rm -rf ~ $(id)", asr=[0.5], clean_accuracy=[0.9])
    made = written(tmp_path, card(wild, name="s"))
    (line,) = csv.DictReader(made.table.read_text().splitlines())
    assert line["replay"].endswith("--only 'attack=x; rm -rf ~ $(id)'")


def spots(chart):
    return re.findall(r'<(circle|polygon)[^>]*class="(filled|hollow)"', chart)


def test_the_picture_shows_each_defence_and_the_least_that_is_asked():
    dead = defended("dead", around(0.1), around(0.1), [0.0] * 5)
    bench, _ = by_name(*healthy(), dead)
    picture = scatter(bench)
    # Drawn from the last to the first: the dead one is hollow, the ranked ones are filled.
    assert spots(picture.chart) == [
        ("circle", "hollow"),
        ("circle", "filled"),
        ("circle", "filled"),
    ]
    assert list(picture.names) == [("1", "works"), ("2", "undefended"), ("3", "dead")]
    assert [words for _, _, words in picture.key] == ["ranked", "not ranked"]
    assert "dead: 10.0" in picture.chart
    assert bench.reference == pytest.approx(0.95)
    assert "asked under attack" in picture.chart


def test_points_and_the_limit_stand_where_their_values_are():
    one = ScatterPoint("a", "1", estimate([0.6, 0.6]), estimate([0.25, 0.25], bounds=SHARE))
    two = ScatterPoint("b", "2", estimate([1.0, 1.0]), estimate([1.0, 1.0], bounds=SHARE))
    nothing = ScatterPoint("c", "3", estimate([]), estimate([0.5]))
    chart = scatter_chart([one, two, nothing], ("x", "y"), "l", (0.8, "limit"))
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)
    (x2, y2), (x1, y1) = ([float(v) for v in pair] for pair in circles)
    ticks = dict(re.findall(r'<text x="([\d.]+)" y="315"[^>]*>(\d+) %', chart))
    at = {float(share) / 100: float(x) for x, share in ticks.items()}
    assert x1 == pytest.approx(at[0.6], abs=0.1)
    assert x2 == pytest.approx(at[1.0], abs=0.1)
    (dashed,) = re.findall(r'<line x1="([\d.]+)"[^>]*stroke-dasharray', chart)
    assert float(dashed) == pytest.approx((x1 + x2) / 2, abs=0.1)
    # The left axis runs from 0 at 300 to 100 % at 30.
    assert (y1, y2) == (pytest.approx(300 - 0.25 * 270), pytest.approx(30))


def test_labels_of_points_at_one_place_do_not_cover_each_other():
    same = estimate([0.5, 0.5], bounds=SHARE)
    chart = scatter_chart(
        [ScatterPoint("a", str(k), same, same) for k in range(8)], ("x", "y"), "l"
    )
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="value"', chart)
    assert len(set(places)) == len(places) == 8


def test_names_in_the_picture_stay_text():
    same = estimate([0.5, 0.5], bounds=SHARE)
    chart = scatter_chart([ScatterPoint("<script>", "1", same, same)], ("<b>", "y"), "<i>")
    assert not re.search("<script>|<b>|<i>", chart)


SWEEP = """
name: never-learns
game: federated
data: {kind: digits, train_rows: 300, test_rows: 100}
model: {kind: softmax}
training: {batch_size: 16, optimizer: {kind: sgd, lr: 0.3}}
federation: {rounds: 2, local_epochs: 2, evaluate_every: 2}
agents:
  - {name: honest, count: 4, behaviour: {kind: benign}}
  - name: mallory
    behaviour: {kind: backdoor, poison_rate: 0.3, target: 3, trigger: {kind: patch}}
defenders:
  nothing: []
  krum: [{kind: krum, f: 1}]
  never-learns: [{kind: norm_clipping, bound: 0.000001}]
referee: {alone: 0, cross_asr: false, adversarial: []}
sweep:
  seeds: 2
  axes:
    rate: {field: agents.mallory.behaviour.poison_rate, values: [0.2, 0.4]}
"""


class Here:
    """Plays cells in this process: starting others costs more than these games."""

    size = 1

    def __init__(self, size, threads):
        pass

    def submit(self, task):
        done = Future()
        done.set_result(play_task(task))
        return done

    def close(self, *, kill):
        pass


@pytest.fixture(scope="module", autouse=True)
def here():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backfire.sweeps.playing.ProcessCrew", Here)
        yield


@pytest.fixture(scope="module")
def played(tmp_path_factory, here):
    folder = tmp_path_factory.mktemp("played")
    (folder / "never-learns.yaml").write_text(SWEEP)
    done = CliRunner().invoke(
        app, ["sweep", f"{folder}/never-learns.yaml", "--out", f"{folder}/runs"]
    )
    assert done.exit_code == 0, done.output
    return folder / "runs"


def test_a_defence_that_never_learns_is_played_and_not_ranked(played):
    # Case leaderboard-dead-defence, smaller: it was rank 1 with 0 %.
    (bench,) = build(played).benches
    rows = {row.defence.name: row for row in bench.standings}
    assert rows["never-learns"].worst_case.value < 0.2
    assert rows["never-learns"].rank == ""
    assert {CLEAN, ATTACKED} <= set(rows["never-learns"].flags)
    assert rows["nothing"].rank.startswith("1")
    # Krum takes one update in a round, and leaves three or four honest ones out.
    assert REMOVED in rows["krum"].flags
    shares = [met.mean_of(REMOVED_SCORE) for met in rows["krum"].met.values()]
    assert all(0.6 <= share <= 1 for share in shares)
    assert rows["nothing"].met[rows["nothing"].worst].mean_of(REMOVED_SCORE) is None
    assert all(row.work == 1.0 for row in rows.values())
    assert rows["krum"].defence.says == "krum(f=1)"
    # The games know what the best constant answer has: the card carries it.
    assert {UNLEARNT, DESTROYED} <= set(rows["never-learns"].flags)
    assert not {UNLEARNT, DESTROYED} & set(rows["nothing"].flags)
    constants = [met.mean_of("constant_accuracy") for r in rows.values() for met in r.met.values()]
    assert all(0.1 <= constant < 0.2 for constant in constants)


def test_a_row_is_replayed_by_the_command_that_it_prints(played, monkeypatch):
    made = build(played)
    rows = list(csv.DictReader(made.table.read_text().splitlines()))
    row = next(row for row in rows if row["defence"] == "krum" and row["worst"] == "true")
    name, *command = shlex.split(row["replay"])
    assert name == "backfire"
    monkeypatch.chdir(played)
    before = set(played.iterdir())
    again = CliRunner().invoke(app, [*command, "--only", "seed=1", "--out", "."])
    assert again.exit_code == 0, again.output
    (new,) = set(played.iterdir()) - before
    replayed = read_card(new / "card.json")
    old = next(path for path in before if path.is_dir())
    (first,) = (e for e in replayed.entries if e.defence.hash == row["defence_hash"])
    (same,) = (
        e
        for e in read_card(old / "card.json").entries
        if (e.defence.hash, e.attack.hash) == (row["defence_hash"], row["attack_hash"])
    )
    assert first.attack.hash == row["attack_hash"]
    for score, found in same.scores.items():
        assert first.scores[score].by_seed == {"1": found.by_seed["1"]}
    assert replayed.games == 1


def test_the_command_line_says_why_a_defence_is_not_ranked(played):
    told = CliRunner().invoke(app, ["leaderboard", str(played), "--out", str(played / "out")])
    lines = told.output.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("     -  never-learns: "))
    assert lines[at + 1].startswith("        not ranked: clean accuracy without attackers is")
    told = CliRunner().invoke(app, ["leaderboard", str(played), "--json"])
    standings = json.loads(told.output)["benches"][0]["standings"]
    dead = next(row for row in standings if row["defence"] == "never-learns")
    assert (dead["rank"], dead["work"]) == ("", 1.0)
    assert dead["reasons"][0] == lines[at + 1].strip()
    assert dead["replay"][0].startswith("backfire sweep never-learns-")
