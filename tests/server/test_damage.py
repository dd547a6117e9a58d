"""Attackers that aim at clean accuracy: what they cost, alone and together, and what is said."""

import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console

from backfire.cli.tables import show
from backfire.evidence.rows import rows_of
from backfire.playing import play
from backfire.reporting.gallery import exhibits
from backfire.reporting.readings import finding_reading
from backfire.reporting.render import render
from backfire.reporting.text import points
from learning.pool import DEFENDER, Block, Pool
from learning.statistics import clustered_difference, combined_difference
from learning.training.job import Trained
from scenarios.loader import parse
from scenarios.schema import RefereeSpec
from scenarios.text.errors import ScenarioError
from server.conformance import check_score
from server.referee.damage.averaged import averaged
from server.referee.damage.findings import damage_finding
from server.referee.damage.hits import DamageHits
from server.referee.facts import AgentFacts, DefenderFacts, GroupFacts
from server.referee.referee import Referee
from server.referee.registry import averaged_epochs, with_damage
from server.referee.results import (
    AgentRecord,
    DefenderScores,
    Difference,
    GroupScores,
    Quantity,
    Summary,
)
from server.referee.scores.damage_alone import DamageAlone
from server.referee.scores.damage_averaged import DamageAveraged
from server.referee.scores.damage_interference import DamageInterference
from server.referee.scores.damage_per_row import DamagePerRow
from server.referee.scores.damage_sum import DamageSum
from server.referee.scoring.scores import share
from server.referee.sealed import RunTimeSet, Sealed
from server.referee.verdict import verdict
from server.store.run_folder import RunFolder
from strategies.base import Predictor
from strategies.pipeline import Outcome

Z = 1.959963984540054

GAME = """
name: flips
data: {kind: digits}
model: {kind: softmax}
training: {epochs: 12, batch_size: 64, optimizer: {kind: sgd, lr: 0.1}}
defender_share: 0.2
agents:
%s
  - {name: honest, count: 3, behaviour: {kind: benign}}
defenders: {open: []}
referee: {%s}
seed: 1
"""
FLIP = "  - {name: flip, count: %d, behaviour: {kind: label_flip, poison_rate: %s, mode: next}}"
BACKDOOR = "  - {name: door, behaviour: {kind: backdoor}}"


def game(agents, referee="alone: all"):
    return parse(GAME % (agents, referee), "flips.yaml")


def right(*rows):
    return np.array(rows, np.float64)


def hits(apart=False, attackers=("a", "b")):
    # Of ten inputs: free has 9 right, a alone 7, b alone 8, both together 6.
    free = right([1] * 9 + [0])
    a, b = right([1] * 7 + [0] * 3), right([0] + [1] * 8 + [0])
    together = right([0] + [1] * 6 + [0] * 3)
    return DamageHits(free, together, {"a": (free, a), "b": (free, b)}, attackers, apart)


def test_damages_add_up_input_by_input_in_points():
    found = hits()
    assert found.summed(("a", "b")).value == pytest.approx(20 + 10)
    assert found.interference(("a", "b")).value == pytest.approx(30 - 30)
    assert found.mean_alone(("a", "b")).value == pytest.approx(0.15)
    assert found.mean_alone(("a", "nobody")).value == pytest.approx(0.2)


def test_the_interval_is_that_of_the_sums_of_the_same_inputs():
    # Input by input: free + free - a - b - free + together; here 1-0 1 0 ... counted by hand.
    free, together = hits().free[0], hits().together[0]
    a, b = hits().alone["a"][1][0], hits().alone["b"][1][0]
    z = free - a - b + together
    n = len(z) + 2
    mean = z.sum() / n
    half = Z * np.sqrt(((z @ z + 3) / n - mean**2) / n)
    found = hits().interference(("a", "b"))
    assert found.low == pytest.approx(100 * (mean - half), abs=1e-9)
    assert found.high == pytest.approx(100 * (mean + half), abs=1e-9)


def test_a_single_difference_has_the_adjusted_interval_of_matched_pairs():
    # Agresti and Min: half a pair is added to each of the four cells.
    first, second = right([1] * 80 + [0] * 20), right([1] * 70 + [0] * 10 + [0] * 15 + [1] * 5)
    b, c, n = 10 + 0.5, 5 + 0.5, 100 + 2
    mean = (b - c) / n
    half = Z * np.sqrt((b + c) - (b - c) ** 2 / n) / n
    found = combined_difference([first, second], [1, -1]).interval
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=1e-12)


def test_a_mean_over_agents_has_the_width_of_a_mean():
    same = right([1] * 50)
    one = combined_difference([same] * 2, [1, -1]).interval
    mean = combined_difference([same] * 8, [0.25, -0.25] * 4).interval
    assert mean.high == pytest.approx(one.high / 2)


def test_games_that_agree_have_width_and_no_inputs_have_no_value():
    same = right([1] * 50)
    found = combined_difference([same] * 4, [1, -1, 1, -1]).interval
    assert found.value == 0
    assert found.low < 0 < found.high
    nothing = combined_difference([np.zeros((1, 0))] * 2, [1, -1])
    assert np.isnan(nothing.interval.value)
    assert nothing.inputs == 0


def test_trainings_that_differ_widen_the_interval():
    free, other = right([1] * 8 + [0] * 2, [1] * 8 + [0] * 2), right([1] * 10, [0] * 10)
    once = combined_difference([free.mean(0), other.mean(0)], [1, -1])
    twice = combined_difference([free, other], [1, -1])
    assert (once.trainings, twice.trainings) == (1, 2)
    # Differences of -.2 and .8: Student's quantile of 1 degree, 12.706, times sd / sqrt 2.
    noise = 12.706204736 * np.sqrt(0.5) / np.sqrt(2)
    value = twice.interval.value
    low = value - np.hypot(value - once.interval.low, noise)
    assert twice.interval.low == pytest.approx(low, rel=1e-8)


@pytest.mark.parametrize("factors", [[1.0, 1.0], [1.0]])
def test_factors_that_do_not_fit_are_refused(factors):
    with pytest.raises(ValueError, match="expected"):
        combined_difference([right([1, 0])] * 2, factors)


def simulated(generator, inputs, attackers, loss, beside):
    """Return the games of inputs whose models err together, as models of one data set do."""
    hardness = generator.uniform(size=inputs)
    slip = generator.uniform(size=(attackers + 1, inputs))
    free = (hardness > 0.05).astype(np.float64)
    alone = [free * (slip[k] > loss) for k in range(attackers)]
    return free, alone, free * (slip[-1] > beside)


@pytest.mark.parametrize(
    ("inputs", "attackers", "loss", "beside"),
    [(300, 5, 0.02, 0.05), (300, 5, 0.0, 0.0), (200, 2, 0.1, 0.1), (1000, 10, 0.01, 0.10)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(inputs, attackers, loss, beside):
    generator = np.random.default_rng(7)
    truth = 0.95 * (attackers * loss - beside)
    covered, many = 0, 1000
    for _ in range(many):
        free, alone, together = simulated(generator, inputs, attackers, loss, beside)
        games = [game for own in alone for game in (free, own)] + [free, together]
        found = combined_difference(games, [1.0, -1.0] * attackers + [-1.0, 1.0]).interval
        covered += found.low <= truth <= found.high
    # Three standard errors of a share of 0.95 of 1000 are 0.02.
    assert covered / many >= 0.93
    assert covered / many <= 0.975 or loss == 0


def test_the_interval_of_damage_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(8)
    covered = 0
    for _ in range(1000):
        free, _, together = simulated(generator, 300, 1, 0.0, 0.03)
        found = clustered_difference([(free, together)]).interval
        covered += found.low <= 0.95 * 0.03 <= found.high
    assert 0.93 <= covered / 1000 <= 0.985


def test_no_sum_where_an_agent_was_not_played_alone_others_attack_or_models_differ():
    assert hits().summed(("a", "c")) is None
    assert hits(attackers=("a", "b", "c")).interference(("a", "b")) is None
    assert hits(attackers=("a", "b", "c")).summed(("a", "b")) is not None
    assert hits(attackers=("a",)).interference(("a",)) is None
    assert hits(apart=True).summed(("a", "b")) is None
    assert hits().mean_alone(("c",)) is None


def test_damage_per_row_is_of_poisoned_rows_over_all_others():
    roster = [record("a", rows=30, poisoned=20), record("honest", malicious=False, rows=50)]
    facts = DefenderFacts([], np.zeros(0, np.int64), ("x",), rows=120, roster=roster, damage=hits())
    # 20 of 120 rows: epsilon 0.2; damage 0.3.
    found = DamagePerRow().compute(facts)
    assert found.value == pytest.approx(1.5)
    assert found.low == pytest.approx(facts.lost.low / 0.2)
    clean = DefenderFacts([], np.zeros(0), ("x",), rows=120, roster=roster[1:], damage=hits())
    assert DamagePerRow().compute(clean) is None


@pytest.mark.parametrize(
    "score",
    [
        DamageAlone(),
        DamageSum(),
        DamageInterference(),
        DamagePerRow(),
        DamageAveraged(),
        DamageAveraged(epochs=3),
    ],
)
def test_the_scores_conform(score):
    check_score(score)


def record(name, *, aim="damage", malicious=True, rows=10, poisoned=0, group="flip"):
    return AgentRecord(
        name=name, group=group, behaviour="x", malicious=malicious, rows=rows,
        poisoned_rows=poisoned, target=None, source=None, admitted=True, aim=aim,
    )  # fmt: skip


def test_scores_of_damage_belong_to_games_with_an_agent_that_aims_at_it():
    kinds = {type(score).__name__ for score in with_damage([], [record("a")])}
    assert {"DamageAlone", "DamageSum", "DamageInterference", "DamagePerRow"} <= kinds
    assert with_damage([], [record("a", aim="backdoor")]) == []
    assert with_damage([], [record("a", malicious=False)]) == []
    asked = with_damage([DamageAlone()], [record("a")])
    assert [score.title for score in asked].count("damage_alone") == 1


def gap(value, low, high, trainings=1):
    return Difference(value=value, count=500, low=low, high=high, trainings=trainings)


def in_points(value, low, high):
    return Quantity(value=value, unit="points", low=low, high=high)


NOBODY = Summary(mean=None, std=None, agents=0, pooled=share(0, 0))


def defended(lost=None, summed=None, interplay=None, free=95, now=90, alone=(0.03, 0.02)):
    more = {"damage_sum": summed, "damage_interference": interplay}
    group = GroupScores(
        asr=NOBODY, asr_all=NOBODY, robust_accuracy=NOBODY,
        more={name: value for name, value in more.items() if value is not None},
    )  # fmt: skip
    agents = {
        name: {"run_time_accuracy": share(5, 10), "more": {"damage_alone": gap(value, -0.01, 0.1)}}
        for name, value in zip("ab", alone, strict=False)
    }
    return DefenderScores(
        defences=(), clean_accuracy=share(5 * now, 500),
        clean_accuracy_attacker_free=None if free is None else share(5 * free, 500),
        adversarial_accuracy={}, groups={"flip": group}, malicious=group, agents=agents,
        cross_asr=None, filters=(), curves=(), work=1, constant_accuracy=0.1, damage=lost,
    )  # fmt: skip


LOST, NOT_LOST = gap(0.05, 0.02, 0.08), gap(0.01, -0.02, 0.04)


@pytest.mark.parametrize(
    ("scores", "whole", "code"),
    [
        (defended(LOST), True, "damages"),
        (defended(LOST, in_points(9, 6, 12), in_points(4, 1, 7)), True, "hinder"),
        (defended(LOST, in_points(2, -1, 5), in_points(-3, -5, -1)), True, "assist"),
        (defended(LOST, in_points(6, 2, 9), in_points(1, -2, 4)), True, "add_up"),
        (defended(NOT_LOST), True, "no_damage"),
        # Alone they do much, together nothing: they have hindered each other.
        (defended(NOT_LOST, in_points(9, 6, 12), in_points(8, 4, 12)), True, "hinder"),
        (defended(NOT_LOST, in_points(1, -3, 5), in_points(0, -4, 4)), True, "no_damage"),
        (defended(None, free=None), True, "no_control"),
        (defended(LOST, free=15, now=10), True, "not_learnt"),
        (defended(gap(0.85, 0.8, 0.9), free=95, now=10), True, "damages"),
        (defended(LOST), False, "beside_others"),
        (defended(LOST, in_points(9, 6, 12)), False, "damages"),
        (defended(LOST, in_points(1, -3, 4)), False, "no_damage"),
    ],
)
def test_what_may_be_said(scores, whole, code):
    found = damage_finding(scores.malicious, scores, whole=whole)
    assert found.code == code
    said = {"no_damage": 0.04}.get(code)
    assert found.trainings in (None, 1)
    assert found.most == (None if said is None else pytest.approx(said))


def told(scores, roster):
    found = damage_finding(scores.malicious, scores, whole=len(roster) == 2)
    judged = scores.malicious.model_copy(update={"finding": found})
    scores = scores.model_copy(update={"malicious": judged, "groups": {"flip": judged}})
    return verdict({"open": scores}, roster, ())


PAIR = [record("a"), record("b")]


def test_a_verdict_says_what_was_lost_together_and_alone_and_nothing_of_success_rates():
    said = told(defended(LOST, in_points(9, 6, 12), in_points(4, 1, 7)), PAIR)
    assert said[0] == (
        "Against the undefended model, flip costs 5 points of clean accuracy together (95 % "
        "interval 2 to 8); alone its 2 agents cost 2 to 3 points each and 9 points (95 % interval "
        "6 to 12) in sum; they hinder each other: together they do 4 points less (95 % interval 1 "
        "to 7), in this training."
    )
    assert "ASR" not in " ".join(said)
    assert "backfire" not in " ".join(said)
    helped = told(defended(LOST, in_points(2, -1, 5), in_points(-3, -5, -1)), PAIR)
    assert "help each other: together they do 3 points more (95 % interval 1 to 5)" in helped[0]


def test_a_badge_of_one_training_describes_it_and_of_several_concludes():
    once, often = (
        finding_reading(scores.malicious.model_copy(update={"finding": found}))
        for scores in (defended(LOST), defended(gap(0.05, 0.02, 0.08, trainings=5)))
        for found in [damage_finding(scores.malicious, scores, whole=True)]
    )
    assert (once.words, once.tone) == ("does damage, in this training", "open")
    assert (often.words, often.tone) == ("does damage", "bad")


def test_several_trainings_are_told_and_none_are_asked_for():
    said = told(defended(gap(0.05, 0.02, 0.08, trainings=5)), PAIR)
    assert said[0].endswith(", means of 5 trainings.")
    assert not any("referee.repeats" in line for line in said)
    assert any("referee.repeats" in line for line in told(defended(LOST), PAIR))


def test_attackers_that_do_nothing_are_said_to_do_nothing():
    said = told(defended(NOT_LOST, now=94), PAIR)
    assert "flip does no damage that can be told from none" in said[0]
    assert "-1 points (95 % interval -4 to 2)" in said[0]
    assert not any("costs" in line for line in said)


def test_beside_a_backdoor_only_what_flips_cost_alone_is_said():
    roster = [*PAIR, record("door", aim="backdoor", group="door")]
    said = " ".join(told(defended(LOST, in_points(9, 6, 12)), roster))
    assert "alone the 2 agents of flip cost 2 to 3 points each and 9 points" in said
    assert "costs 5 points" not in said
    assert "cannot be told from what the other attackers cost" in " ".join(
        told(defended(LOST), roster)
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    return play(game(FLIP % (2, 0.8)), out=tmp_path_factory.mktemp("flips"))


def test_a_game_of_flips_plays_each_alone_and_its_scores_add_up(played):
    result = played.result
    own = result.defenders["open"]
    lost = own.clean_accuracy_attacker_free.value - own.clean_accuracy.value
    assert own.more["damage_averaged"].count == own.damage.count
    assert own.damage.value == pytest.approx(lost)
    assert lost > 0
    alone = [own.agents[name].more["damage_alone"].value for name in ("flip-01", "flip-02")]
    group = own.groups["flip"].more
    assert group["damage_sum"].value == pytest.approx(100 * sum(alone))
    assert group["damage_alone"].value == pytest.approx(sum(alone) / 2)
    assert group["damage_interference"].value == pytest.approx(100 * (sum(alone) - lost))
    assert own.malicious.more == group
    flipped = sum(agent.poisoned_rows for agent in result.roster)
    rows = result.rows["defender"] + result.rows["agents"]
    per_row = own.more["damage_per_row"].value
    assert per_row == pytest.approx(lost / (flipped / (rows - flipped)))
    assert result.trainings == 4  # attacked, attacker-free, two alone
    assert "ASR" not in " ".join(result.verdict)


def test_its_result_is_read_back_and_says_whose_aim_is_what(played):
    again = RunFolder.open(played.folder).result()
    assert again == played.result
    kept = json.loads((played.folder / "result.json").read_text())
    aims = {agent["name"]: agent.get("aim") for agent in kept["roster"]}
    assert aims["flip-01"] == "damage"
    assert aims["honest-01"] is None


def test_the_report_shows_who_did_damage_alone_and_together_and_what_they_made(played):
    page = render(played.folder).read_text("utf-8")
    drawn = page[page.index('<figure class="card">') : page.index('<ul class="told">')]
    own = played.result.defenders["open"]
    for name in ("flip-01", "flip-02"):
        lost = 100 * own.agents[name].more["damage_alone"].value
        assert f"{name}: {points(lost / 100)} points" in drawn
        assert f">{name}<" in drawn
    for label in ("together", "averaged", "sum of alone"):
        assert f">{label}<" in drawn
    assert "ASR in the attacked game" not in page
    assert "No attacker was scored" not in page
    assert "no trigger, so no success rate" in page
    # Labels under the pictures: digits flipped to the next one.
    found = re.findall(r"(\d) → (\d)", page)
    assert found
    assert all((int(one) + 1) % 10 == int(other) for one, other in found)


def test_labels_of_a_gallery_that_are_none_are_not_shown():
    images = {
        "poisoned/a": np.zeros((4, 1, 2, 2), np.float32),
        "poisoned_from/a": np.ones((4, 1, 2, 2), np.float32),
        "poisoned_labels/a": np.array([[0, 1], [2, 2], [0.5, 1], [np.nan, 9]], np.float32).reshape(
            4, 2, 1, 1
        ),
    }
    (shown,) = exhibits(images, ["a"], ("cat", "dog", "bird"))
    assert [pair.label for pair in shown.strips[0].pairs] == ["cat → dog", "bird", "", ""]
    images["poisoned_labels/a"] = np.zeros((4, 1, 2, 2), np.float32)
    (shown,) = exhibits(images, ["a"], ("cat",))
    assert {pair.label for pair in shown.strips[0].pairs} == {""}


def test_a_report_of_both_kinds_has_a_section_for_damage(tmp_path):
    played = play(game(f"{BACKDOOR}\n{FLIP % (2, 0.8)}"), out=tmp_path)
    page = render(played.folder).read_text("utf-8")
    assert page.count('<section id="damage">') == 1
    assert "ASR in the attacked game" in page


def test_trainings_of_all_games_are_taken_where_they_are_repeated(tmp_path):
    scenario = game(FLIP % (2, 0.8), "alone: all, repeats: 2")
    own = play(scenario, out=tmp_path).result.defenders["open"]
    assert own.damage.trainings == own.agents["flip-01"].more["damage_alone"].trainings == 2


def test_flips_of_nothing_do_no_damage(tmp_path):
    result = play(game(FLIP % (2, 0.0)), out=tmp_path).result
    own = result.defenders["open"]
    assert own.damage.value == 0
    assert own.damage.low < 0 < own.damage.high
    assert own.groups["flip"].finding.code == "no_damage"
    assert "costs" not in result.verdict[0]
    assert "damage_per_row" not in own.more


class Says(torch.nn.Module):
    """Predicts the class in the first pixel, but for those of `wrong` the next of four."""

    def __init__(self, *wrong):
        super().__init__()
        self.wrong = wrong

    def forward(self, x):
        label = (x[:, 0, 0, 0] * 10).round().long()
        for one in self.wrong:
            label = torch.where(label == one, (label + 1) % 4, label)
        return torch.nn.functional.one_hot(label, 4) * 5.0


def refereed(worlds, asked=(), *, aims=("damage", "damage")):
    """Return the scores of models whose hits are known, by world: (last iterate, averaged)."""
    y = np.arange(40) % 4
    x = np.zeros((40, 1, 2, 2), np.float32)
    x[:, 0, 0, 0] = y / 10
    none = np.zeros(0, np.int64)
    roster = [record(name, aim=aim) for name, aim in zip("ab", aims, strict=True)]
    run_time = {name: RunTimeSet(name, x[:4], y[:4], x[:0], none) for name in "ab"}
    pool = Pool((Block(DEFENDER, 0, x, y),), 4)
    outcomes = {
        world: Outcome(Predictor((Trained(Says(*last), (), 1, 1, 0.0, averaged=mean),)), (), pool)
        for world, (last, mean) in worlds.items()
    }
    spec = RefereeSpec(alone="all", scores=asked)
    referee = Referee(Sealed(run_time, {}, x, y), roster, spec, 0)
    return referee.sample_alone(), referee.score((), outcomes)


WORLDS = {
    "attacked": ((0, 1), Says(0)),
    "attacker_free": ((), Says()),
    "alone/a": ((0, 1), Says(0)),
    "alone/b": ((0, 1, 2), Says(0)),
}


def test_models_whose_answers_are_known_lose_what_they_lose():
    alone, scores = refereed(WORLDS)
    assert alone == ("a", "b")
    assert scores.damage.value == pytest.approx(0.5)
    assert scores.more["damage_averaged"].value == pytest.approx(0.25)
    assert scores.agents["a"].more["damage_alone"].value == pytest.approx(0.5)
    assert scores.agents["b"].more["damage_alone"].value == pytest.approx(0.75)
    assert scores.malicious.more["damage_sum"].value == pytest.approx(125)
    assert scores.malicious.more["damage_interference"].value == pytest.approx(75)
    assert scores.malicious.finding.code == "hinder"


def test_nothing_is_averaged_where_a_model_has_no_mean():
    _, scores = refereed({**WORLDS, "attacked": ((0, 1), None)})
    assert "damage_averaged" not in scores.more
    assert scores.damage.value == pytest.approx(0.5)


def test_without_the_control_game_there_is_no_damage():
    _, scores = refereed({"attacked": ((0,), Says())})
    assert scores.damage is None
    assert not scores.more
    assert scores.malicious.finding.code == "no_control"


def test_a_damage_score_can_be_asked_of_attackers_of_another_aim():
    alone, scores = refereed(WORLDS, (DamageAlone(),), aims=("backdoor", "backdoor"))
    assert alone == ()
    assert scores.agents["b"].more["damage_alone"].value == pytest.approx(0.75)
    assert scores.malicious is None


def averaged_of(models):
    predictor = Predictor(models[:1], {"ada": models})
    return predictor, averaged(predictor)


def test_a_predictor_is_averaged_whole_or_not_at_all():
    last, mean = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    whole = Trained(last, (), 1, 1, 0.0, averaged=mean)
    _, found = averaged_of((whole, whole))
    assert [one.module for one in found.by_agent["ada"]] == [mean, mean]
    # Models that are one stay one, so that they are asked once.
    assert found.by_agent["ada"][0] is found.by_agent["ada"][1]
    assert averaged_of((whole, Trained(last, (), 1, 1, 0.0)))[1] is None


def test_a_scenario_averages_over_one_number_of_epochs():
    asked = "scores: [{kind: damage_averaged, epochs: %d}%s]"
    scores = game(FLIP % (1, 0.5), asked % (3, "")).referee.scores
    assert averaged_epochs(scores, [record("a")]) == 3
    titles = {one.title for one in with_damage(scores, [record("a")])}
    assert "damage_averaged:3" in titles
    assert "damage_averaged" not in titles
    assert averaged_epochs((), [record("a")]) == 5
    assert averaged_epochs((), [record("a", aim="backdoor")]) == 0
    two = asked % (3, ", {kind: damage_averaged}")
    with pytest.raises(ScenarioError, match="one number of epochs"):
        game(FLIP % (1, 0.5), two)


def test_a_game_without_such_agents_has_none_of_it(tmp_path):
    result = play(game(BACKDOOR), out=tmp_path).result
    text = result.model_dump_json()
    assert "damage_" not in text
    assert '"aim"' not in text
    assert result.defenders["open"].damage is not None


def test_a_backdoor_beside_flips_is_judged_as_ever(tmp_path):
    result = play(game(f"{BACKDOOR}\n{FLIP % (2, 0.8)}"), out=tmp_path).result
    groups = result.defenders["open"].groups
    assert groups["door"].asr.agents == 1
    assert groups["door"].comparison is not None
    assert "damage_interference" not in groups["flip"].more
    assert "damage_sum" in groups["flip"].more
    assert "ASR" in result.verdict[0]
    assert "flip" not in result.verdict[0]
    assert any("alone the 2 agents of flip cost" in line for line in result.verdict)


def test_made_up_facts_without_the_control_game_have_no_score():
    assert DamageSum().compute(GroupFacts([], [], ("a",))) is None
    assert DamageInterference().compute(GroupFacts([], [], ("a",))) is None
    assert AgentFacts.__dataclass_fields__["alone"].default is None


BOTH = """
name: flips
game: both
data: {kind: digits}
model: {kind: softmax}
training: {epochs: 12, batch_size: 64, optimizer: {kind: sgd, lr: 0.1}}
federation: {rounds: 3}
defender_share: 0.2
agents:
  - {name: flip, count: 2, behaviour: {kind: label_flip, poison_rate: 0.9, mode: next}}
  - {name: honest, count: 3, behaviour: {kind: benign}}
defenders: {open: []}
referee: {alone: all}
seed: 1
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return play(parse(BOTH, "both.yaml"), out=tmp_path_factory.mktemp("both"))


def test_flips_of_both_games_are_judged_in_each_and_nothing_is_said_of_success(both):
    result = both.result
    assert "cannot be compared" not in result.verdict[0]
    assert "flip" in result.verdict[0]
    for word in ("ASR", "backfire", "success"):
        assert word not in " ".join(result.verdict)
    assert "in the pooled game" in result.verdict[0] or "in both games" in result.verdict[0]
    page = render(both.folder).read_text("utf-8")
    assert ", in this training</span>" in page


def test_in_a_federated_game_each_is_played_alone_over_all_rounds(both):
    own = both.result.defenders["federated: open"]
    group = own.groups["flip"].more
    alone = [own.agents[name].more["damage_alone"].value for name in ("flip-01", "flip-02")]
    lost = own.damage.value
    assert group["damage_interference"].value == pytest.approx(100 * (sum(alone) - lost))
    assert "damage_averaged" not in own.more  # of pooled games
    assert "damage_averaged" in both.result.defenders["pooled: open"].more
    part = both.result.part_of("federated: open")
    poisoned = sum(agent.poisoned_rows for agent in part.roster)
    rows = sum(agent.rows for agent in part.roster)  # the defender's are not trained on
    assert own.more["damage_per_row"].value == pytest.approx(lost / (poisoned / (rows - poisoned)))


def test_sweeps_and_the_terminal_hold_every_score_of_damage(played):
    rows = {(row.score, row.group, row.agent) for row in rows_of(played.result, {}, "x")}
    own = {score for score, group, agent in rows if not group and not agent}
    assert {"damage", "damage_averaged", "damage_per_row"} <= own
    assert {("damage_alone", "flip", "flip-01"), ("damage_interference", "flip", "")} <= rows
    assert ("damage_sum", "flip", "") in rows
    console = Console(record=True, width=200)
    show(played.result, None, console)
    text = console.export_text()
    gap = played.result.defenders["open"].groups["flip"].more["damage_interference"]
    assert f"[{gap.low:.4g}, {gap.high:.4g}]" in text
    assert "damage alone" in text


def test_a_sweep_of_backdoors_has_no_column_for_damage(tmp_path):
    result = play(game(BACKDOOR), out=tmp_path).result
    assert not any(row.score.startswith("damage") for row in rows_of(result, {}, "x"))


def test_two_groups_that_flip_are_told_as_one_and_scored_apart(tmp_path):
    second = "  - {name: other, count: 1, behaviour: {kind: label_flip, poison_rate: 0.8}}"
    played = play(game(f"{FLIP % (2, 0.8)}\n{second}"), out=tmp_path)
    own = played.result.defenders["open"]
    said = played.result.verdict[0]
    assert "flip and other cost " in said
    assert "alone their 3 agents cost " in said
    groups = [own.groups[name].more["damage_sum"].value for name in ("flip", "other")]
    assert own.malicious.more["damage_sum"].value == pytest.approx(sum(groups))
    assert not any("damage_interference" in group.more for group in own.groups.values())
    assert own.malicious.more["damage_interference"].value == pytest.approx(
        sum(groups) - 100 * own.damage.value
    )
    console = Console(record=True, width=200)
    show(played.result, None, console)
    assert "open, all attackers: damage interference" in console.export_text()
    page = render(played.folder).read_text("utf-8")
    assert "<td><bdi>all attackers</bdi></td>" in page
