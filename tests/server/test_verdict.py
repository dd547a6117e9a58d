"""The verdict says what the numbers say, and where they say nothing it says so."""

from __future__ import annotations

import pytest

from server.results import (
    AgentRecord,
    DefenderScores,
    Difference,
    FilterScores,
    GroupScores,
    Quarantine,
)
from server.scoring.scores import share, summary
from server.verdict import verdict


def record(name, *, group="mallory", malicious=True, admitted=True):
    return AgentRecord(
        name=name, group=group, behaviour="backdoor" if malicious else "benign",
        malicious=malicious, rows=10, poisoned_rows=2 if malicious else 0,
        target=None, source=None, admitted=admitted,
    )  # fmt: skip


ROSTER = [record("honest", group="honest", malicious=False), record("m-1"), record("m-2")]


def group(together, *, alone=None, gap=None, untrained=2, count=100, agents=3):
    """Return group scores from hits of `count`; `gap` is (low, high)."""
    nothing = summary([])
    return GroupScores(
        asr=summary([share(together, count)] * agents),
        asr_all=nothing,
        robust_accuracy=nothing,
        asr_untrained=None if untrained is None else summary([share(untrained, count)] * agents),
        asr_alone=None if alone is None else summary([share(alone, count)] * agents),
        interference=None
        if gap is None
        else Difference(
            value=(alone - together) / count, count=count * agents, low=gap[0], high=gap[1]
        ),
    )


def scores(groups, *, clean=950, free=960, **more):
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
    }
    return DefenderScores(**(fields | more))


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
        "Against the undefended model, chameleon backfired: ASR 22 % together, 93 % alone "
        "(interference 71 points, 95 % interval 60 to 79, 300 inputs, 3 agents); mallory did not "
        "backfire: ASR 90 % together, 88 % alone (interference -2 points, 95 % interval -6 to 2, "
        "300 inputs, 3 agents)."
    )


@pytest.mark.parametrize(
    ("alone", "gap", "said"),
    [
        (93, (0.001, 0.8), "m backfired:"),
        (54, (0.01, 0.045), "m did not backfire:"),  # sure, but not material
        (54, (0.01, 0.07), "whether m backfired cannot be told, for want of inputs:"),
        (93, (-0.1, 0.8), "whether m backfired cannot be told, for want of inputs:"),
        (52, (-0.1, 0.14), "m did not backfire, or by 14 points at most:"),
        (52, (-0.1, 0.27), "whether m backfired cannot be told, for want of inputs:"),
        (30, (-0.4, -0.1), "m did not backfire (the other attackers help it):"),
        (50, (-0.04, 0.04), "m did not backfire:"),
    ],
)
def test_the_finding_rests_on_the_interval_and_on_the_size(alone, gap, said):
    assert said in first({"m": group(50, alone=alone, gap=gap)})


def test_an_attack_that_fails_alone_too_did_not_backfire():
    for gap in ((-0.02, 0.02), (-0.1, 0.15)):
        sentence = first({"m": group(3, alone=3, gap=gap)})
        assert "m had nothing to lose, as it does not work alone either:" in sentence


def test_an_effect_that_few_inputs_cannot_show_is_not_denied():
    few = {"count": 8, "agents": 1}
    sentence = first({"m": group(4, alone=5, gap=(-0.2, 0.4), untrained=4, **few)})
    assert (
        "whether m backfired cannot be told, as its attack alone cannot be told apart" in sentence
    )
    some = {"count": 100, "agents": 1}
    sentence = first({"m": group(3, alone=3, gap=(-0.1, 0.1), **some)})
    assert "m had nothing to lose, or 6.6 points at most:" in sentence


def test_help_of_the_others_is_said_of_an_attack_that_fails_alone():
    sentence = first({"m": group(50, alone=3, gap=(-0.6, -0.4), untrained=3)})
    assert "m did not backfire (the other attackers help it):" in sentence


def test_without_a_game_alone_nothing_is_claimed():
    sentence = first({"m": group(50)})
    assert "whether m backfired cannot be told: none of its attackers was played alone" in sentence
    assert "did not" not in sentence


def test_a_group_without_triggered_inputs_is_not_judged():
    assert "m plays no backdoor that could backfire" in first({"m": group(0, agents=0)})


def test_no_attacker_and_a_single_attacker():
    honest, one, two = ROSTER
    assert first({}, [honest]).startswith("No admitted agent attacked")
    out = record("m-2", admitted=False)
    sentence = first({"m": group(50, alone=50, gap=(-0.01, 0.01))}, [honest, one, out])
    assert sentence.startswith("m-1 is the only attacker")
    assert "50 %" in sentence
    assert "no attacker could be scored" in first({}, [honest, one, two])


def test_an_attack_no_better_than_its_control_is_said_to_be_so():
    text = verdict({"undefended": scores({"m": group(4, count=100)})}, ROSTER, ())
    assert any(s.startswith("m's ASR of 4 %") and "cannot be told apart from" in s for s in text)
    text = verdict({"undefended": scores({"m": group(90)})}, ROSTER, ())
    assert not any("never saw the trigger" in s for s in text)
    text = verdict({"undefended": scores({"m": group(10, untrained=60)})}, ROSTER, ())
    assert any("is below that of a model that never saw the trigger" in s for s in text)


def test_each_defence_is_set_beside_undefended():
    text = verdict(
        {
            "filtered": scores({"m": group(2)}, clean=900, defences=("ss",)),
            "undefended": scores({"m": group(90)}),
            "hooked": scores({"m": group(89)}, clean=951, free=None, defences=("cutmix",)),
        },
        ROSTER,
        (),
    )
    (filtered,) = [s for s in text if s.startswith("filtered: ASR")]
    assert "ASR of m 2 % against 90 %, lower by 88 points" in filtered
    assert "it cannot be told apart from a model that never saw the trigger, 2 %" in filtered
    assert "clean accuracy 90 % (96 % without attackers), lower by 5 points" in filtered
    (hooked,) = [s for s in text if s.startswith("hooked: ASR")]
    assert "89 % against 90 %, which cannot be told apart;" in hooked
    assert hooked.endswith("clean accuracy 95.1 %, which cannot be told apart.")
    assert "The undefended model has clean accuracy 95 % (96 % without attackers)." in text


def test_without_an_undefended_game_the_first_defender_is_the_reference():
    text = verdict({"a": scores({"m": group(50)}, defences=("x",))}, ROSTER, ())
    assert text[0].startswith("Against the defender a, ")


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
    assert "another seed" in verdict({"undefended": scores({})}, ROSTER, ())[-1]
