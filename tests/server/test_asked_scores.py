"""Scores that a scenario asks for: what they count, that they conform, and where they are shown."""

import json
from typing import ClassVar, Literal

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from backfire.cli.tables import show
from backfire.evidence.card import _is_said
from backfire.evidence.rows import rows_of
from backfire.evidence.series import bounds_of
from backfire.playing import play
from backfire.reporting.render import render
from backfire.reporting.sweeps.tables import by_rank
from learning.method import discover
from scenarios.schema import RefereeSpec
from server.conformance import check_score
from server.referee.facts import AgentFacts, AttackHistory, DefenderFacts
from server.referee.registry import CHOSEN, STANDARD, definitions, head_of, standard_scores
from server.referee.results import AgentRecord, AskedScore, Quantity, RoundScores
from server.referee.scores.attack_cost import AttackEpochs, AttackRows
from server.referee.scores.base import AgentScore, DefenderScore, ScoreMethod
from server.referee.scores.class_accuracy import ClassAccuracy, WorstClassAccuracy
from server.referee.scores.honest_agents_removed import HonestAgentsRemoved
from server.referee.scores.lifespan import AreaUnderASR, Lifespan, TimeToBreak
from server.referee.scoring.agents import AgentAnswers
from server.referee.scoring.detection import detection_scores, round_detection
from server.referee.scoring.scores import over_agents, share
from server.referee.sealed import RunTimeSet
from server.store.agents_table import agents_table
from server.store.run_folder import RunFolder
from small_games import ROOT, small


def attacker(asr_by_round, attacked=(2, 3), epochs=2.0, seen=40):
    """Return the facts of an attacker with a backdoor that had this asr after these rounds."""
    x = np.zeros((2, 1, 1, 1), np.float32)
    y, target = np.array([0, 2]), np.array([1, 1])
    rounds = tuple(
        RoundScores(
            round=at, sampled=("a",), admitted=("a",), skipped=False, selected=None,
            clean_accuracy=share(1, 2), asr={} if hits is None else {"a": share(hits, 100)},
        )
        for at, hits in asr_by_round.items()
    )  # fmt: skip
    answers = AgentAnswers(y.astype(np.int16), target.astype(np.int16)[None])
    return AgentFacts(
        RunTimeSet("a", x, y, x + 1, target, 1), answers, True, None,
        AttackHistory(attacked, epochs, seen), rounds,
    )  # fmt: skip


CURVE = {1: 10, 2: 60, 3: 80, 4: 70, 5: 40, 6: 39, 7: 90}


def test_a_lifespan_ends_at_the_first_evaluation_under_half_of_what_was_reached():
    # 80 % after the last attack: 40 % in round 5 is not under half of it, 39 % in round 6 is.
    assert Lifespan().compute(attacker(CURVE)) == Quantity(value=3, unit="rounds")
    assert Lifespan(share=0.6).compute(attacker(CURVE)) == Quantity(value=2, unit="rounds")


def test_a_lifespan_that_outlives_the_game_is_a_lower_bound():
    lasting = {1: 0, 2: 60, 3: 80, 4: 79, 5: 78}
    assert Lifespan().compute(attacker(lasting)) == Quantity(value=2, unit="rounds", at_least=True)


@pytest.mark.parametrize(
    ("curve", "attacked"),
    [
        ({1: 10, 2: 60, 3: 80}, (2, 3)),  # no round is left
        ({1: 10, 2: 60, 3: 0, 4: 0}, (2, 3)),  # nothing was reached
        ({1: 10, 2: None, 3: None}, (2, 3)),  # nothing was evaluated
        (CURVE, ()),  # it never attacked
    ],
)
def test_where_nothing_can_fall_there_is_no_lifespan(curve, attacked):
    assert Lifespan().compute(attacker(curve, attacked)) is None


def test_a_lifespan_starts_at_the_first_evaluation_after_the_last_attack():
    # Rounds 3 and 4 were not evaluated: 50 % in round 5 is what the attack left.
    sparse = {1: 0, 2: 90, 3: None, 4: None, 5: 50, 6: 30, 7: 20}
    assert Lifespan().compute(attacker(sparse)).value == 7 - 3


def test_the_time_to_break_counts_the_round_of_the_first_attack():
    assert TimeToBreak().compute(attacker(CURVE)).value == 1
    assert TimeToBreak(level=0.8).compute(attacker(CURVE)).value == 2
    # What an asr was before the attack does not count.
    early = {1: 90, 2: 10, 3: 20}
    assert TimeToBreak().compute(attacker(early)) == Quantity(value=2, unit="rounds", at_least=True)


def test_the_area_is_that_of_trapezia_over_the_rounds_from_the_first_attack():
    ours = AreaUnderASR().compute(attacker({1: 100, 2: 0, 3: 80, 5: 40}))
    assert ours.value == pytest.approx((0.5 * 0.8 + 2 * 0.6) / 3)
    assert AreaUnderASR().compute(attacker({1: 0, 2: 30})).value == pytest.approx(0.3)


def test_the_cost_is_that_of_the_rounds_in_which_it_cheats():
    facts = attacker(CURVE, attacked=(2, 3, 6), epochs=1.5, seen=40)
    assert AttackEpochs().compute(facts) == Quantity(value=4.5, unit="epochs")
    assert AttackRows().compute(facts) == Quantity(value=120, unit="rows")


def test_a_pooled_game_has_no_lifespan_and_no_cost():
    facts = attacker({})
    pooled = AgentFacts(facts.run_time, facts.answers, True)
    for score in (Lifespan(), TimeToBreak(), AreaUnderASR(), AttackEpochs(), AttackRows()):
        assert score.compute(pooled) is None


def test_classes_are_counted_apart_and_the_worst_is_the_least():
    y = np.array([0, 0, 1, 1, 1, 1])
    # Two models: the first answers two agents, the second one.
    test = [(np.array([0, 0, 1, 1, 0, 0]), 2), (np.array([0, 1, 1, 1, 1, 0]), 1)]
    facts = DefenderFacts([(c.astype(np.int16), n) for c, n in test], y, ("cat", "dog", "elk"))
    ours = ClassAccuracy().compute(facts)
    assert list(ours) == ["cat", "dog", "elk"]
    assert (ours["cat"].hits, ours["cat"].count) == (pytest.approx(1 + 2 / 3), 2)
    assert (ours["dog"].hits, ours["dog"].count) == (pytest.approx(2 + 1 / 3), 4)
    assert ours["elk"].value is None  # no input, and so not the worst
    assert WorstClassAccuracy().compute(facts) == ours["dog"]


def test_honest_agents_count_as_removed_above_the_share():
    agents = ("ada", "bob", "mal")
    rounds = []
    for at, taken in enumerate([("bob",), ("bob", "mal"), ("ada", "mal"), ("ada", "bob")], 1):
        rounds.append(
            RoundScores(
                round=at, sampled=agents, admitted=agents, skipped=False, selected=taken,
                clean_accuracy=None, asr={}, detection=round_detection(agents, (), taken, None),
            )
        )  # fmt: skip
    roster = [
        AgentRecord(
            name=name, group=name, behaviour="benign", malicious=name == "mal", rows=1,
            poisoned_rows=0, target=None, source=None, admitted=True,
        )
        for name in agents
    ]  # fmt: skip
    facts = DefenderFacts(
        [], np.zeros(0, np.int64), (), roster=roster, detection=detection_scores(rounds)
    )
    # Ada is out in two of four rounds, Bob in one; Mallory is not honest.
    counts = [HonestAgentsRemoved(above=above).compute(facts) for above in (0.0, 0.25, 0.5)]
    assert [(one.hits, one.count) for one in counts] == [(2, 2), (1, 2), (0, 2)]
    weighing = detection_scores([one.model_copy(update={"selected": None}) for one in rounds[:1]])
    only = DefenderFacts([], np.zeros(0, np.int64), (), roster=roster, detection=weighing)
    assert HonestAgentsRemoved().compute(only) is None


@pytest.mark.parametrize("kind", discover(ScoreMethod, CHOSEN))
def test_every_score_that_can_be_asked_for_conforms(kind):
    check_score(discover(ScoreMethod, CHOSEN)[kind]())


class Stray(AgentScore):
    """What the broken ones below break."""

    kind: Literal["stray"] = "stray"
    definition: ClassVar[str] = "what"
    head: ClassVar[str] = "stray"
    bounds: ClassVar = (0.0, 2.0)

    def compute(self, facts):
        return Quantity(value=1.0)


class _Outside(Stray):
    kind: Literal["outside"] = "outside"

    def compute(self, facts):
        return Quantity(value=2.5)


class _Bare(Stray):
    kind: Literal["bare"] = "bare"

    def compute(self, facts):
        return 1.0


class _Writing(Stray):
    kind: Literal["writing"] = "writing"

    def compute(self, facts):
        facts.run_time.y[0] += 1
        return Quantity(value=1.0)


class _Never(Stray):
    kind: Literal["never"] = "never"

    def compute(self, facts):
        return None


class _Failing(Stray):
    kind: Literal["failing"] = "failing"

    def compute(self, facts):
        return Quantity(value=1 / len(facts.run_time.targets))


class _Fickle(Stray):
    kind: Literal["fickle"] = "fickle"

    def compute(self, facts):
        object.__setattr__(self, "calls", 1 - getattr(self, "calls", 0))
        return Quantity(value=self.calls)


class _Silent(Stray):
    kind: Literal["silent"] = "silent"
    definition: ClassVar[str] = " "


class _Renamed(Stray):
    kind: Literal["renamed"] = "renamed"

    @property
    def title(self):
        return "asr"


class _First(Stray):
    kind: Literal["first"] = "first"

    def compute(self, facts):
        return Quantity(value=0.1 * len(facts.run_time.agent) % 2)

    def combine(self, values, group):
        return values[0]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_Outside, "values in 0..2, got 2.5"),
        (_Bare, "expected a Score, a Difference, a Quantity"),
        (_Writing, "an array was changed"),
        (_Never, "a value in one of the made-up games"),
        (_Failing, "ZeroDivisionError"),
        (_Fickle, "the same score twice"),
        (_Silent, "definition as one line of text"),
        (_Renamed, "a title renamed or renamed:<which>"),
        (_First, "the same in any order of the agents"),
    ],
)
def test_the_check_names_each_fault_in_one_line(broken, said):
    check_score(Stray())
    with pytest.raises(AssertionError) as error:
        check_score(broken())
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_scores_of_every_game_say_what_they_are_and_stand_in_one_order():
    names = [score.title for score in standard_scores()]
    assert len(names) == len(set(names)) == len(discover(ScoreMethod, STANDARD))
    ranks = [score.rank for score in standard_scores()]
    assert ranks == sorted(set(ranks))
    assert all(score.definition.strip() and score.head for score in standard_scores())
    assert list(definitions([Lifespan()]))[-1] == "lifespan:50"
    assert by_rank(["lifespan:50", "unheard", "asr", "clean_accuracy"]) == [
        "clean_accuracy", "asr", "lifespan:50", "unheard",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("asr", (0, 1)), ("interference", (-1, 1)), ("work", (0, np.inf)),
        ("trigger_shape_distance", (0, 2)), ("filter:spectral_signatures#2:recall", (0, 1)),
        ("adversarial:PGD", (0, 1)), ("lifespan:50", (0, np.inf)),
        ("unheard_of", (-np.inf, np.inf)),
    ],
)  # fmt: skip
def test_a_range_is_known_by_the_name_in_the_long_table(name, bounds):
    assert bounds_of(name) == bounds


def test_a_card_says_shares_that_are_meant_for_it():
    assert _is_said("asr")
    assert _is_said("worst_class_accuracy")
    assert not _is_said("lifespan:50")
    assert not _is_said("asr_part")
    assert not _is_said("unheard_of")


def test_heads_are_those_of_the_result():
    asked = {
        "lifespan:50": AskedScore(
            of="agent", head="how long", interval="none", higher_is_better=None, low=0, high=None
        )
    }
    assert head_of("lifespan:50", asked) == "how long 50"
    assert head_of("lifespan:25", {}) == "lifespan"
    assert head_of("unheard_of", {}) == "unheard_of"


def test_amounts_over_agents_say_how_many_are_lower_bounds():
    values = [
        Quantity(value=1, unit="rounds"),
        Quantity(value=4, unit="rounds", at_least=True),
        Quantity(value=None, unit="rounds", at_least=True),
    ]
    ours = over_agents(values)
    assert (ours.mean, ours.agents, ours.unit, ours.at_least) == (2.5, 2, "rounds", 1)
    assert ours.std == pytest.approx(np.sqrt(4.5))


def test_a_score_is_asked_for_once():
    with pytest.raises(ValidationError, match="expected each score once, got lifespan:50 twice"):
        RefereeSpec(scores=[{"kind": "lifespan"}, {"kind": "lifespan", "share": 0.5}])
    both = RefereeSpec(scores=[{"kind": "lifespan"}, {"kind": "lifespan", "share": 0.25}])
    assert [score.title for score in both.scores] == ["lifespan:50", "lifespan:25"]


def test_who_asks_for_nothing_has_the_scenario_of_before():
    assert "scores" not in RefereeSpec().model_dump(mode="json")
    assert "scores" in RefereeSpec(scores=[{"kind": "lifespan"}]).model_dump(mode="json")


@pytest.fixture(scope="module")
def federated(tmp_path_factory):
    """Return a small federated game that asks for every score there is, and its folder."""
    found = discover(ScoreMethod, CHOSEN).items()  # those of damage: tests/server/test_damage.py
    asked = [{"kind": kind} for kind, method in found if not method.of_damage]
    scenario = small(
        ROOT / "scenarios" / "federated" / "quickstart.yaml",
        referee={"scores": asked, "alone": 0, "attacker_free": False},
        defenders={"mean": [], "krum": [{"kind": "multi_krum", "f": 3}]},
    )
    played = play(scenario, out=tmp_path_factory.mktemp("asked"))
    render(played.folder)
    return scenario, played.folder, played.result


def test_a_game_has_the_scores_that_it_asks_for_and_they_are_read_back(federated):
    _, folder, result = federated
    assert RunFolder.open(folder).result() == result
    assert set(result.asked) == {
        "class_accuracy", "worst_class_accuracy", "lifespan:50", "time_to_break:50",
        "area_under_asr", "attack_epochs", "attack_rows", "honest_agents_removed:50",
    }  # fmt: skip
    kept = json.loads((folder / "result.json").read_text())
    for scores in result.defenders.values():
        worst = scores.more["worst_class_accuracy"]
        parts = [v for n, v in scores.more.items() if n.startswith("class_accuracy:")]
        assert worst.value == min(one.value for one in parts)
        whole = sum(one.hits for one in parts), sum(one.count for one in parts)
        assert whole == (pytest.approx(scores.clean_accuracy.hits), scores.clean_accuracy.count)
        for record in result.roster:
            own = scores.agents[record.name].more
            assert ("attack_rows" in own) == record.malicious
    assert kept["asked"]["lifespan:50"]["unit"] == "rounds"


def test_the_cost_is_counted_from_rounds_epochs_and_rows(federated):
    scenario, _, result = federated
    federation = scenario.federation
    for name, rounds in result.rounds.items():
        for record in (one for one in result.roster if one.malicious):
            own = result.defenders[name].agents[record.name].more
            times = sum(record.name in entry.sampled for entry in rounds)
            assert own["attack_epochs"].value == times * federation.local_epochs
            assert own["attack_rows"].value == times * federation.local_epochs * record.rows


def test_they_are_shown_in_report_terminal_parquet_and_long_table(federated):
    _, folder, result = federated
    page = (folder / "report.html").read_text()
    assert 'id="asked"' in page
    for told in result.asked.values():
        assert told.head in page
    console = Console(record=True, width=200)
    show(result, None, console)
    printed = console.export_text()
    rows = rows_of(result, {}, "")
    for name, scores in result.defenders.items():
        worst = scores.more["worst_class_accuracy"]
        assert f"{name}: worst class accuracy {100 * worst.value:.1f} %" in printed
        (row,) = [
            row for row in rows
            if (row.defender, row.score) == (name, "worst_class_accuracy")
        ]  # fmt: skip
        assert (row.value, row.hits, row.count, row.low) == (
            worst.value, worst.hits, worst.count, worst.low,
        )  # fmt: skip
    costs = [row for row in rows if row.score == "attack_rows"]
    assert {row.agent for row in costs} >= {"", *(a.name for a in result.roster if a.malicious)}
    table = agents_table(result).to_pylist()
    for line in table:
        own = result.defenders[line["defender"]].agents[line["agent"]].more
        value = own.get("attack_rows")
        assert line["attack_rows"] == (None if value is None else value.value)
        assert line["attack_rows_unit"] == (None if value is None else "rows")


def test_families_of_scores_are_told_apart():
    kinds = {score.title: score.of for score in standard_scores()}
    assert kinds["asr"] == "agent"
    assert kinds["effect"] == "group"
    assert kinds["clean_accuracy"] == "defender"
    assert isinstance(standard_scores()[0], DefenderScore)
