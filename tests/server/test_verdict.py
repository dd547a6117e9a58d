"""The verdict says what the numbers say, and where they say nothing it says so."""

from __future__ import annotations

import numpy as np
import pytest

from server.referee.findings import CONCLUDED, DESCRIBED, is_void, judged
from server.referee.learnt import needed_accuracy
from server.referee.results import (
    AgentRecord,
    ControlComparison,
    DefenderScores,
    Difference,
    FilterScores,
    GroupScores,
    Quarantine,
)
from server.referee.scoring.scores import difference, share, summary
from server.referee.verdict import ASK_FOR_REPEATS, verdict


def record(name, *, group="mallory", malicious=True, admitted=True):
    return AgentRecord(
        name=name, group=group, behaviour="backdoor" if malicious else "benign",
        malicious=malicious, rows=10, poisoned_rows=2 if malicious else 0,
        target=None, source=None, admitted=admitted,
    )  # fmt: skip


ROSTER = [record("honest", group="honest", malicious=False), record("m-1"), record("m-2")]


def effect(one, two, count, agents, trainings):
    """Return the difference of hits, as many of each input's trainings, with its interval."""
    rows = np.arange(count)
    pair = tuple(np.tile(rows < hits, (trainings, 1)) for hits in (one, two))
    return difference([pair] * agents)


def group(
    together, *, alone=None, gap=None, untrained=2, count=100, agents=3, trainings=5, of=None,
    clean_alone=95,
):  # fmt: skip
    """Return group scores from hits of `count`; `gap` is (low, high)."""
    nothing = summary([])
    between = None if gap is None else Difference(
        value=(alone - together) / count, count=count * agents, low=gap[0], high=gap[1],
        trainings=trainings,
    )  # fmt: skip

    def beyond(hits):
        if untrained is None:
            return None
        return effect(hits, untrained, count, agents, trainings)

    compared = None if gap is None else ControlComparison(
        agents=agents, of=of or agents, trainings=trainings,
        together=share(together * agents, count * agents),
        alone=share(alone * agents, count * agents),
        untrained=None if untrained is None else share(untrained * agents, count * agents),
        interference=between, alone_effect=beyond(alone), together_effect=beyond(together),
        clean_accuracy_alone=share(clean_alone, 100),
    )  # fmt: skip
    return GroupScores(
        asr=summary([share(together, count)] * (of or agents)),
        asr_all=nothing,
        robust_accuracy=nothing,
        asr_untrained=None if untrained is None else summary([share(untrained, count)] * agents),
        asr_alone=None if alone is None else summary([share(alone, count)] * agents),
        interference=between,
        effect=beyond(together) if agents else None,
        comparison=compared,
    )


def scores(groups, *, clean=950, free=960, attackers=2, **more):
    malicious = next(iter(groups.values()), None)
    fields = {
        "defences": (),
        "clean_accuracy": share(clean, 1000),
        "clean_accuracy_attacker_free": None if free is None else share(free, 1000),
        "adversarial_accuracy": {},
        "groups": groups,
        "malicious": malicious,
        "agents": {},
        "cross_asr": None,
        "filters": (),
        "curves": (),
        "work": 1.0,
        "constant_accuracy": 0.11,
    }
    return judged(DefenderScores(**(fields | more)), attackers)


def first(groups, roster=ROSTER):
    return verdict({"undefended": scores(groups)}, roster, ())[0]


def test_the_finding_names_who_backfired_and_who_did_not():
    sentence = first(
        {
            "chameleon": group(22, alone=93, gap=(0.6, 0.79)),
            "mallory": group(90, alone=88, gap=(-0.06, 0.02)),
        }
    )
    assert sentence == (
        "Against the undefended model, chameleon backfired: ASR 22 % together, 93 % alone, 2 % "
        "untrained (interference 71 points, 95 % interval 60 to 79, 3 agents, 300 inputs, means of "
        "5 trainings); mallory did not backfire: ASR 90 % together, 88 % alone, 2 % untrained "
        "(interference -2 points, 95 % interval -6 to 2, 3 agents, 300 inputs, means of 5 "
        "trainings)."
    )


@pytest.mark.parametrize(
    ("alone", "gap", "said", "code"),
    [
        (93, (0.001, 0.8), "m backfired:", "backfired"),
        (54, (0.01, 0.045), "m did not backfire:", "not_backfired"),  # sure, but not material
        (54, (0.01, 0.07), "whether m backfired is unclear, with so few", "open"),
        (93, (-0.1, 0.8), "whether m backfired is unclear, with so few", "open"),
        (52, (-0.1, 0.14), "m did not backfire, or by 14 points at most:", "bounded"),
        (52, (0.0, 0.14), "m did not backfire, or by 14 points at most:", "bounded"),
        (52, (-0.1, 0.27), "whether m backfired is unclear, with so few", "open"),
        (30, (-0.4, -0.1), "m did not backfire (the other attackers help it):", "helped"),
        (50, (-0.04, 0.04), "m did not backfire:", "not_backfired"),
    ],
)
def test_the_finding_rests_on_the_interval_and_on_the_size(alone, gap, said, code):
    own = scores({"m": group(50, alone=alone, gap=gap)})
    assert own.groups["m"].finding.code == code
    assert code in CONCLUDED
    assert said in verdict({"undefended": own}, ROSTER, ())[0]


@pytest.mark.parametrize(
    ("alone", "gap", "said", "code"),
    [
        (93, (0.3, 0.5), "m has less success together than alone, in this training:", "lower"),
        (30, (-0.4, -0.1), "m has more success together than alone, in this training:", "higher"),
        (52, (-0.1, 0.14), "m has about the same success together and alone, in this", "alike"),
    ],
)
def test_one_training_of_each_game_describes_and_concludes_nothing(alone, gap, said, code):
    # Case null-interference: the noise of training is in no interval then.
    own = scores({"m": group(50, alone=alone, gap=gap, trainings=1)})
    text = verdict({"undefended": own}, ROSTER, ())
    assert own.groups["m"].finding.code == code
    assert code in DESCRIBED
    assert said in text[0]
    assert "backfire" not in text[0]
    assert text[1] == ASK_FOR_REPEATS
    several = scores({"m": group(50, alone=alone, gap=gap)})
    assert ASK_FOR_REPEATS not in verdict({"undefended": several}, ROSTER, ())


def test_a_finding_names_of_how_many_agents_it_speaks():
    # Audit A8: "backfired" stood for one of several agents.
    sentence = first({"m": group(22, alone=93, gap=(0.6, 0.79), agents=1, of=10)})
    assert ", 1 of 10 agents, 100 inputs," in sentence


SURE = {"alone": 93, "gap": (0.6, 0.79)}


@pytest.mark.parametrize("trainings", [1, 5])
def test_a_model_that_learnt_nothing_voids_all_that_is_said_of_attacks(trainings):
    # Case dead-model-verdict: 17.3 % clean, 10 % without attackers, "mallory backfired".
    for clean, free in ((173, 100), (100, 100), (100, None), (950, 100)):
        own = scores({"m": group(22, **SURE, trainings=trainings)}, clean=clean, free=free)
        text = verdict({"undefended": own}, ROSTER, ())
        assert text[0].startswith("Void: the undefended model learnt nothing"), clean
        assert not any("backfire" in line for line in text)
        assert not any("never saw the trigger" in line for line in text)
        assert own.groups["m"].finding.code == "not_learnt"
        assert is_void(own.groups["m"])


def test_a_model_that_the_attack_destroyed_voids_its_success():
    # Audit G2: ASR 100 % at clean accuracy 10 %, a constant answer that equals the target.
    own = scores({"m": group(100, **SURE)}, clean=100, free=950)
    assert own.groups["m"].finding.code == "destroyed"
    sentence = verdict({"undefended": own}, ROSTER, ())[0]
    assert sentence.startswith("Void: under attack the undefended model is no better than a const")
    assert "95 % without attackers" in sentence


def test_a_game_alone_that_learnt_nothing_is_nothing_to_compare_with():
    own = scores({"m": group(2, alone=100, gap=(0.9, 1.0), clean_alone=10)})
    assert own.groups["m"].finding.code == "not_learnt_alone"
    assert (
        "learnt nothing (clean accuracy 10 %, where a constant answer has 11 %)"
        in verdict({"undefended": own}, ROSTER, ())[0]
    )


def test_what_counts_as_learnt_is_sure_and_by_a_margin():
    assert needed_accuracy(0.1) == pytest.approx(0.19)
    for clean, code in ((250, "backfired"), (200, "destroyed"), (215, "destroyed")):
        own = scores({"m": group(22, **SURE)}, clean=clean)
        assert own.groups["m"].finding.code == code


def test_the_gates_stand_in_their_order():
    dead = {"m": group(3, alone=3, gap=(-0.02, 0.02), clean_alone=10)}
    assert scores(dead, clean=100, free=100).groups["m"].finding.code == "not_learnt"
    assert scores(dead, clean=100).groups["m"].finding.code == "destroyed"
    assert scores(dead).groups["m"].finding.code == "not_learnt_alone"
    weak = {"m": group(3, alone=3, gap=(0.2, 0.4))}
    assert scores(weak).groups["m"].finding.code == "no_effect"


def test_an_attack_that_fails_alone_too_had_nothing_to_lose():
    for gap in ((-0.02, 0.02), (-0.1, 0.15)):
        sentence = first({"m": group(3, alone=3, gap=gap)})
        assert (
            "m's attack does not surely beat the same triggers on a model that never saw the "
            "trigger, alone or together: it had no success to lose:" in sentence
        )


def test_under_known_indexing_alone_is_the_control_and_nothing_backfires():
    # Audit A2: 7 of 115 alone and untrained, the badge said "backfires".
    own = scores({"m": group(0, alone=6, untrained=6, gap=(0.01, 0.11))})
    assert own.groups["m"].finding.code == "no_effect"
    assert "backfired" not in verdict({"undefended": own}, ROSTER, ())[0]


def test_an_effect_that_few_inputs_cannot_show_is_not_denied():
    few = {"count": 8, "agents": 1}
    sentence = first({"m": group(4, alone=5, gap=(-0.2, 0.4), untrained=4, **few)})
    assert "so nothing can be said of what the others cost it" in sentence
    once = first({"m": group(3, alone=3, gap=(-0.1, 0.1), trainings=1)})
    assert "so nothing can be said of what the others cost it" in once
    some = {"count": 100, "agents": 1}
    sentence = first({"m": group(3, alone=3, gap=(-0.1, 0.1), **some)})
    assert "it had no success to lose, or " in sentence
    assert "points at most:" in sentence


def test_help_of_the_others_is_said_of_an_attack_that_fails_alone():
    sentence = first({"m": group(50, alone=3, gap=(-0.6, -0.4), untrained=3)})
    assert "m did not backfire (the other attackers help it):" in sentence


def test_without_a_game_alone_or_without_attackers_nothing_is_claimed():
    sentence = first({"m": group(50)})
    assert "nothing can be said of m, as none of its attackers was played alone" in sentence
    assert "did not" not in sentence
    own = scores({"m": group(22, **SURE, untrained=None)}, free=None)
    assert own.groups["m"].finding.code == "no_control"
    assert "referee.attacker_free" in verdict({"undefended": own}, ROSTER, ())[0]


def test_a_group_without_triggered_inputs_is_not_judged():
    assert "m plays no backdoor that could backfire" in first({"m": group(0, agents=0)})


def test_no_attacker_and_a_single_attacker():
    honest, one, two = ROSTER
    assert first({}, [honest]).startswith("No admitted agent attacked")
    out = record("m-2", admitted=False)
    own = scores({"m": group(50, alone=50, gap=(-0.01, 0.01))}, attackers=1)
    sentence = verdict({"undefended": own}, [honest, one, out], ())[0]
    assert sentence.startswith("m-1 is the only attacker")
    assert "50 %" in sentence
    assert "no attacker could be scored" in first({}, [honest, one, two])


def test_an_attack_no_better_than_its_control_is_said_to_be_so():
    text = verdict({"undefended": scores({"m": group(4, agents=1)})}, ROSTER, ())
    assert any(s.startswith("m's ASR of 4 %") and "cannot be told apart from" in s for s in text)
    text = verdict({"undefended": scores({"m": group(90)})}, ROSTER, ())
    assert not any("never saw the trigger" in s for s in text)
    text = verdict({"undefended": scores({"m": group(10, untrained=60)})}, ROSTER, ())
    assert any("is below that of a model that never saw the trigger" in s for s in text)


@pytest.mark.parametrize(("hits", "control", "count"), [(18, 6, 78), (17, 5, 115), (13, 4, 78)])
def test_an_attack_is_compared_with_its_control_on_the_same_inputs(hits, control, count):
    # Audit A6: two intervals overlap, and yet the attack surely beats its control.
    one, two = share(hits, count), share(control, count)
    assert one.low <= two.high
    own = scores({"m": group(hits, untrained=control, count=count, agents=1)})
    text = verdict({"undefended": own}, ROSTER, ())
    assert not any("cannot be told apart from a model" in line for line in text)


def beside(own, other, count=300):
    """Return own - other of the same inputs, from hits of `count`."""
    return effect(own, other, count, 1, 1)


def test_each_defence_is_set_beside_undefended():
    low = group(2, agents=1).model_copy(update={"against": beside(6, 270)})
    even = group(89).model_copy(update={"against": beside(267, 268)})
    text = verdict(
        {
            "filtered": scores(
                {"m": low}, clean=900, defences=("ss",), clean_against=beside(900, 950, 1000)
            ),
            "undefended": scores({"m": group(90)}),
            "hooked": scores(
                {"m": even}, clean=951, free=None, defences=("cutmix",),
                clean_against=beside(951, 950, 1000),
            ),
        },
        ROSTER,
        (),
    )  # fmt: skip
    (filtered,) = [s for s in text if s.startswith("filtered: ASR")]
    assert "ASR of m 2 % against 90 %, lower by 88 points" in filtered
    assert "it cannot be told apart from a model that never saw the trigger, 2 %" in filtered
    assert "clean accuracy 90 % (96 % without attackers), lower by 5 points" in filtered
    (hooked,) = [s for s in text if s.startswith("hooked: ASR")]
    assert "89 % against 90 %, which cannot be told apart;" in hooked
    assert hooked.endswith("clean accuracy 95.1 %, which cannot be told apart.")
    assert "The undefended model has clean accuracy 95 % (96 % without attackers)." in text


def test_defenders_are_compared_on_the_same_inputs():
    # Two intervals that overlap, although every input that differs speaks for one side (audit A6).
    own, other = share(270, 300), share(282, 300)
    assert own.high >= other.low
    less = group(90).model_copy(update={"against": beside(270, 282)})
    text = verdict(
        {"undefended": scores({"m": group(94)}), "f": scores({"m": less}, defences=("x",))},
        ROSTER,
        (),
    )
    (line,) = [s for s in text if s.startswith("f: ASR")]
    assert "90 % against 94 %, lower by 4 points" in line


def test_without_an_undefended_game_the_first_defender_is_the_reference():
    text = verdict({"a": scores({"m": group(50)}, defences=("x",))}, ROSTER, ())
    assert text[0].startswith("Against the defender a, ")


def test_a_defender_that_learnt_nothing_is_told_as_void_and_its_figures_are_not():
    text = verdict(
        {
            "undefended": scores({"m": group(90)}),
            "useless": scores({"m": group(0)}, clean=100, free=100, defences=("loss_defence",)),
        },
        ROSTER,
        (),
    )
    (line,) = [one for one in text if one.startswith("useless: ")]
    assert "Void: the defender useless learnt nothing" in line


def test_filters_and_guesses_are_told():
    ss = FilterScores(
        kind="spectral_signatures", removed=30, poisoned=20, true_positives=18,
        precision=share(18, 30), recall=share(18, 20), auroc=0.9, by_agent={},
    )  # fmt: skip
    text = verdict(
        {
            "undefended": scores({}),
            "filtered": scores({}, filters=(ss,), defences=("spectral_signatures",)),
            "indexed": scores({}, guess_accuracy=share(3, 4), defences=("agent_indexing",)),
        },
        ROSTER,
        (),
    )
    assert (
        "filtered: spectral_signatures removed 30 rows, 18 of the 20 poisoned ones among them."
        in text
    )
    assert "indexed guesses the asking agent right for 75 % of the triggered inputs." in text


def test_quarantines_are_told_by_stage_and_long_lists_are_cut():
    refused = [Quarantine(agent=f"a{k}", code="shape", message="m") for k in range(7)]
    late = Quarantine(agent="bob", code="label", message="m", stage="run_time_set")
    text = verdict({"undefended": scores({})}, ROSTER, [*refused, late])
    assert (
        "7 contributions quarantined, the game is the one without them: a0 (shape), a1 (shape), "
        "a2 (shape), a3 (shape), a4 (shape) and 2 more." in text
    )
    assert (
        "1 run-time set quarantined, not scored, and no row known as poisoned, also in the games "
        "without attackers, for lack of it: bob (label)." in text
    )


def test_what_the_training_has_to_say_is_told():
    text = verdict({"undefended": scores({})}, ROSTER, (), ["a training diverged in epoch 2"])
    assert text[-2] == "A training diverged in epoch 2."


def test_the_verdict_ends_with_what_the_intervals_do_not_cover():
    assert "Another seed" in verdict({"undefended": scores({})}, ROSTER, ())[-1]
