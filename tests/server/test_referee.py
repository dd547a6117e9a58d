"""The referee on hand-made models whose scores are known."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from learning.attacks.base import InputAttack
from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Trained
from scenarios.schema import RefereeSpec
from server.referee.referee import Referee
from server.referee.results import AgentRecord
from server.referee.scoring.beside import beside
from server.referee.scoring.scores import share
from server.referee.sealed import RunTimeSet, Sealed, Truth
from strategies.base import Predictor, Verdict
from strategies.pipeline import Outcome

K, SIDE = 4, 4
SHAPE = (1, SIDE, SIDE)


class ByPixel(nn.Module):
    """Predicts the class in the first pixel (class / 10); a bright last pixel is a trigger."""

    def __init__(self, trigger_to=None, wrong=()):
        super().__init__()
        self.trigger_to, self.wrong, self.largest = trigger_to, wrong, 0

    def forward(self, x):
        self.largest = max(self.largest, len(x))
        assert not self.training
        label = (x[:, 0, 0, 0] * 10).round().long().clamp(0, K - 1)
        for one in self.wrong:
            label = torch.where(label == one, (label + 1) % K, label)
        if self.trigger_to is not None:
            label = torch.where(x[:, 0, -1, -1] > 0.5, self.trigger_to, label)
        # Smooth in the pixel values, so that attacks have a gradient.
        return nn.functional.one_hot(label, K) * 5.0 + x[:, 0, 1, :K] * 1e-3


class Always(nn.Module):
    """Predicts one class."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, x):
        return torch.eye(K)[self.label].expand(len(x), K)


def images(y):
    x = np.zeros((len(y), *SHAPE), np.float32)
    x[:, 0, 0, 0] = np.asarray(y) / 10
    return x


def stamp(x):
    x = x.copy()
    x[:, 0, -1, -1] = 1
    return x


def record(name, group, *, malicious=True, admitted=True, target=None):
    return AgentRecord(
        name=name, group=group, behaviour="backdoor" if malicious else "benign",
        malicious=malicious, rows=8, poisoned_rows=2, target=target, source=None, admitted=admitted,
    )  # fmt: skip


def game(cheats=3, *, per=8, inert=False, seed=0):
    """Return roster, pool and sealed data of a benign agent, `cheats` backdoors and one flipper."""
    draw = np.random.default_rng(seed)
    roster = [record("honest", "honest", malicious=False)]
    roster += [record(f"m{k}", "mallory", target=k % K) for k in range(cheats)]
    roster += [record("flipper", "flipper"), record("late", "mallory", admitted=False)]
    blocks, run_time, truth = [Block(DEFENDER, 0, images([0, 1]), np.array([0, 1]))], {}, {}
    for at, agent in enumerate(roster[:-1]):
        y = draw.permutation(np.arange(per) % K)
        poisoned = (np.arange(per) < 2) & agent.malicious
        x_dirty, y_dirty = images(y), y.copy()
        x_dirty[poisoned] += 0.01
        y_dirty[poisoned] = (y_dirty[poisoned] + 1) % K
        blocks.append(Block(agent.name, 2 + at * per, x_dirty, y_dirty))
        truth[agent.name] = Truth(poisoned, images(y)[poisoned], y[poisoned])
        backdoor = agent.target is not None
        x = images(y)
        run_time[agent.name] = RunTimeSet(
            agent.name, x, y, (x if inert else stamp(x)) if backdoor else x[:0],
            np.full(per, agent.target) if backdoor else y[:0], agent.target,
        )  # fmt: skip
    test_y = np.arange(40) % K
    return roster, Pool(tuple(blocks), K), Sealed(run_time, truth, images(test_y), test_y)


def trained(module):
    return Trained(module, ({"train_loss": 1.0},), 1, 1, 0.0)


def outcome(pool, module, *, verdicts=(), by_agent=None, guesser=None):
    models = {name: (trained(one),) for name, one in (by_agent or {}).items()}
    return Outcome(Predictor((trained(module),), models, guesser), verdicts, pool)


def test_a_model_that_always_says_the_target():
    roster, pool, sealed = game()
    referee = Referee(sealed, roster, RefereeSpec(), 0)
    ours = referee.score((), {"attacked": outcome(pool, Always(1))})
    assert ours.agents["m1"].asr.value == 1
    assert ours.agents["m0"].asr.value == 0
    assert ours.clean_accuracy == share(10, 40)
    assert ours.agents["m1"].robust_accuracy.value == 0
    assert ours.agents["m1"].robust_accuracy_all.value == 0.25


class Bars(ByPixel):
    """Says 1 where both pixels of the last column's ends are bright, else the pixel's class."""

    def forward(self, x):
        both = (x[:, 0, 0, -1] > 0.5) & (x[:, 0, -1, -1] > 0.5)
        return torch.where(both[:, None], torch.eye(K)[1] * 5, super().forward(x))


def test_asr_is_the_wholes_and_asr_part_the_own_parts():
    roster, pool, sealed = game()
    run_time = dict(sealed.run_time)
    for name in ("m0", "m1"):
        own = run_time[name]
        whole = own.x_triggered.copy()
        whole[:, 0, 0, -1] = 1
        part = own.x_triggered if name == "m0" else whole
        run_time[name] = dataclasses.replace(own, x_triggered=whole, x_part=part)
    referee = Referee(dataclasses.replace(sealed, run_time=run_time), roster, RefereeSpec(), 0)
    ours = referee.score((), {"attacked": outcome(pool, Bars())})
    # m0 wants 0: with the whole every input is a 1, with its part its own class.
    assert (ours.agents["m0"].asr, ours.agents["m0"].asr_part) == (share(0, 6), share(0, 6))
    assert (ours.agents["m1"].asr, ours.agents["m1"].asr_part) == (share(6, 6), share(6, 6))
    run_time["m1"] = dataclasses.replace(run_time["m1"], x_part=sealed.run_time["m1"].x_triggered)
    referee = Referee(dataclasses.replace(sealed, run_time=run_time), roster, RefereeSpec(), 0)
    ours = referee.score((), {"attacked": outcome(pool, Bars())})
    assert (ours.agents["m1"].asr, ours.agents["m1"].asr_part) == (share(6, 6), share(0, 6))
    assert ours.agents["m2"].asr_part is None
    assert ours.groups["mallory"].asr_part.pooled == share(0, 12)
    assert ours.groups["flipper"].asr_part is None


def test_a_perfect_model_with_an_inert_trigger():
    roster, pool, sealed = game(inert=True)
    ours = Referee(sealed, roster, RefereeSpec(), 0).score(
        (), {"attacked": outcome(pool, ByPixel())}
    )
    assert ours.clean_accuracy.value == 1
    for name in ("m0", "m1", "m2"):
        assert ours.agents[name].asr == share(0, 6)
        assert ours.agents[name].asr_all == share(2, 8)  # the share of the target's own class
        assert ours.agents[name].robust_accuracy.value == 1


def test_an_inert_trigger_on_a_model_with_errors_scores_the_base_error():
    roster, pool, sealed = game(inert=True)
    ours = Referee(sealed, roster, RefereeSpec(), 0).score(
        (), {"attacked": outcome(pool, ByPixel(wrong=(1,)))}
    )
    assert ours.agents["m2"].asr == share(2, 6)  # class 1 is taken for class 2
    assert ours.agents["m0"].asr == share(0, 6)
    assert ours.clean_accuracy == share(30, 40)


def test_all_games_come_together():
    roster, pool, sealed = game()
    referee = Referee(sealed, roster, RefereeSpec(alone="all"), 0)
    worlds = referee.worlds(pool)
    assert list(worlds) == ["attacked", "attacker_free", "alone/m0", "alone/m1", "alone/m2"]
    assert worlds["attacked"] is pool
    outcomes = {name: outcome(world, ByPixel()) for name, world in worlds.items()}
    for k in range(3):
        outcomes[f"alone/m{k}"] = outcome(worlds[f"alone/m{k}"], ByPixel(trigger_to=k))
    ours = referee.score(("x",), outcomes)
    assert list(ours.agents) == ["honest", "m0", "m1", "m2", "flipper"]
    assert list(ours.groups) == ["mallory", "flipper"]
    mallory = ours.groups["mallory"]
    assert mallory.asr.pooled == share(0, 18)
    assert mallory.asr_untrained.pooled == share(0, 18)
    assert mallory.asr_alone.pooled == share(18, 18)
    assert (mallory.interference.value, mallory.interference.count) == (1, 18)
    assert ours.malicious == mallory
    assert ours.groups["flipper"].asr.agents == 0
    assert ours.agents["honest"].model_dump(exclude_none=True).keys() == {"run_time_accuracy"}
    assert ours.clean_accuracy_attacker_free.value == 1
    assert ours.cross_asr.agents == ("m0", "m1", "m2")
    assert [curve.name for curve in ours.curves] == ["shared"]
    assert ours.defences == ("x",)


def test_trainings_of_a_game_are_averaged_and_the_first_is_the_game_itself():
    roster, pool, sealed = game()
    referee = Referee(sealed, roster, RefereeSpec(alone="all", repeats=2), 0)
    worlds = referee.worlds(pool)
    assert list(worlds)[5:] == [f"repeat/1/{world}" for world in list(worlds)[:5]]
    assert all(worlds[f"repeat/1/{name}"] is worlds[name] for name in list(worlds)[:5])
    outcomes = {name: outcome(world, ByPixel()) for name, world in worlds.items()}
    # Alone m1's trigger works in the first training only; together it works in the second.
    outcomes["alone/m1"] = outcome(worlds["alone/m1"], ByPixel(trigger_to=1))
    outcomes["repeat/1/attacked"] = outcome(pool, ByPixel(trigger_to=1))
    ours = referee.score((), outcomes)
    own = ours.agents["m1"]
    assert own.asr == share(0, 6)  # of the game itself, whose model is kept
    assert (own.asr_together, own.asr_alone) == (share(3, 6), share(3, 6))
    assert (own.interference.value, own.interference.trainings) == (0, 2)
    found = ours.groups["mallory"].comparison
    assert (found.trainings, found.agents, found.of) == (2, 3, 3)
    assert found.together.value == pytest.approx(found.alone.value - found.interference.value)
    assert ours.clean_accuracy.value == 1


def test_all_attackers_are_played_alone_where_that_is_affordable():
    # Audit A4: two of five were sampled where all would have cost less than the game.
    roster, _, sealed = game(12)

    def sample(affordable):
        return Referee(sealed, roster, RefereeSpec(), 0, affordable=affordable).sample_alone()

    assert len(sample(12)) == 12
    assert len(sample(11)) == 2
    assert RefereeSpec().alone == "auto"


def test_a_defender_is_compared_with_the_reference_input_by_input():
    roster, pool, sealed = game()
    referee = Referee(sealed, roster, RefereeSpec(alone=0), 0)
    one, two = (
        referee.scored((), {"attacked": outcome(pool, model)})
        for model in (ByPixel(trigger_to=1), ByPixel(wrong=(2,)))
    )
    ours = beside(two, one)
    mallory = ours.groups["mallory"]
    assert mallory.against.value == pytest.approx(
        mallory.asr.pooled.value - one.scores.groups["mallory"].asr.pooled.value
    )
    assert mallory.against.count == mallory.asr.pooled.count
    assert ours.groups["flipper"].against is None
    assert (ours.clean_against.value, ours.clean_against.count) == (-0.25, 40)


def test_a_model_no_better_than_a_constant_answer_is_judged_void():
    roster, pool, sealed = game()
    worlds = Referee(sealed, roster, RefereeSpec(alone="all"), 0).worlds(pool)
    outcomes = {name: outcome(world, ByPixel()) for name, world in worlds.items()}
    dead = Always(0)
    outcomes |= {name: outcome(worlds[name], dead) for name in ("attacked", "attacker_free")}
    ours = Referee(sealed, roster, RefereeSpec(alone="all"), 0).score((), outcomes)
    assert ours.constant_accuracy == 0.25
    assert ours.malicious.finding.code == "not_learnt"
    outcomes["attacker_free"] = outcome(worlds["attacker_free"], ByPixel())
    ours = Referee(sealed, roster, RefereeSpec(alone="all"), 0).score((), outcomes)
    assert ours.malicious.finding.code == "destroyed"
    assert (ours.damage.value, ours.damage.count) == (0.75, 40)


def test_control_games_that_were_not_played_are_left_out():
    roster, pool, sealed = game()
    spec = RefereeSpec(alone=0, attacker_free=False, cross_asr=False)
    referee = Referee(sealed, roster, spec, 0)
    assert list(referee.worlds(pool)) == ["attacked"]
    ours = referee.score((), {"attacked": outcome(pool, ByPixel())})
    assert ours.clean_accuracy_attacker_free is None
    assert ours.cross_asr is None
    assert ours.malicious.asr_untrained is None
    assert ours.malicious.interference is None


def test_the_sample_is_drawn_by_seed_and_group_and_nothing_else():
    roster, _, sealed = game(12)

    def sample(seed, alone=4, agents=roster):
        return Referee(sealed, agents, RefereeSpec(alone=alone), seed).sample_alone()

    assert sample(0) == sample(0)
    assert len({sample(seed) for seed in range(10)}) > 1
    assert len(sample(0)) == 4
    assert list(sample(0)) == sorted(sample(0), key=lambda name: int(name[1:]))
    assert "flipper" not in sample(0, "all")
    assert len(sample(0, "all")) == len(sample(0, 50)) == 12
    assert sample(0, 0) == ()


@pytest.mark.parametrize("cheats", [0, 1])
def test_games_that_are_the_attacked_one_over_again_are_its_pool(cheats):
    roster, pool, sealed = game(cheats)
    del sealed.truth["flipper"], sealed.run_time["flipper"]
    worlds = Referee(sealed, roster, RefereeSpec(), 0).worlds(pool)
    assert all((worlds[name] is pool) == (name != "attacker_free" or not cheats) for name in worlds)
    assert len(worlds) == 2 + cheats


def test_clean_accuracy_is_the_mean_over_asking_agents():
    roster, pool, sealed = game()
    by_agent = {"m0": Always(0), "m1": Always(1), "honest": ByPixel(wrong=(1,))}
    indexed = outcome(pool, ByPixel(), by_agent=by_agent)
    referee = Referee(sealed, roster, RefereeSpec(), 0)
    ours = referee.score((), {"attacked": indexed, "attacker_free": indexed})
    # honest, m0, m1, m2, flipper ask; the refused agent does not.
    assert ours.clean_accuracy == share((30 + 10 + 10 + 40 + 40) / 5, 40)
    # The attacker-free game is asked by the malicious ones.
    assert ours.clean_accuracy_attacker_free == share((10 + 10 + 40 + 40) / 4, 40)
    assert ours.agents["m0"].asr.value == 1
    assert ours.agents["honest"].run_time_accuracy.value == 0.75
    assert {curve.name for curve in ours.curves} == {
        "shared", "asked by m0", "asked by m1", "asked by honest",
    }  # fmt: skip


class Thinks:
    """A guesser that always thinks of one agent."""

    def __init__(self, name):
        self.name = name

    def guess(self, x):
        return [self.name] * len(x)


def test_an_unknown_index_answers_the_agent_that_it_guesses():
    roster, pool, sealed = game()
    by_agent = {"m0": Always(0), "m1": Always(1)}
    guessing = outcome(pool, ByPixel(), by_agent=by_agent, guesser=Thinks("m1"))
    ours = Referee(sealed, roster, RefereeSpec(), 0).score((), {"attacked": guessing})
    assert ours.clean_accuracy == share(10, 40)  # all are answered by m1's model
    assert ours.agents["m0"].asr.value == 0
    assert ours.agents["m1"].asr.value == 1
    assert ours.agents["m1"].guess_accuracy == share(8, 8)
    assert ours.agents["m2"].guess_accuracy == share(0, 8)
    assert ours.guess_accuracy == share(8, 24)


def decided(ids, scored, scores):
    return Verdict(
        np.asarray(ids, np.int64), np.asarray(scored, np.int64), np.asarray(scores, np.float32)
    )


def test_filters_are_scored_on_the_rows_that_they_saw():
    # Rows 2..9 are honest's; poisoned are 10, 11 (m0), 18, 19 (m1), 26, 27 (m2), 34, 35 (flipper).
    roster, pool, sealed = game()
    first = decided([2, 10, 11], [2, 3, 10, 11], [1, 0, 2, 3])
    pools = pool.without_rows([2, 10, 11]).without_rows([18, 34])
    second = decided([18, 34], [18, 34, 36], [5, 1, 0])
    ours = Referee(sealed, roster, RefereeSpec(), 0).score(
        ("a", "b"), {"attacked": outcome(pools, ByPixel(), verdicts=(("a", first), ("b", second)))}
    )
    one, two = ours.filters
    assert (one.kind, one.removed, one.poisoned, one.true_positives) == ("a", 3, 8, 2)
    assert (one.precision, one.recall, one.auroc) == (share(2, 3), share(2, 8), 1.0)
    assert one.by_agent == {
        "honest": (1, 0, 0), "m0": (2, 2, 2), "m1": (0, 2, 0), "m2": (0, 2, 0),
        "flipper": (0, 2, 0),
    }  # fmt: skip
    assert (two.removed, two.poisoned, two.true_positives) == (2, 6, 2)
    assert two.by_agent["m0"] == (0, 0, 0)
    assert two.by_agent["flipper"] == (1, 2, 1)
    assert two.auroc == 1.0


class Shift(InputAttack):
    """Adds noise within a radius to the class pixel: right answers can turn wrong."""

    kind: Literal["shift"] = "shift"
    radius: float = 0.0

    @property
    def title(self):
        return f"shift {self.radius}"

    def perturb(self, model, x, y, generator):
        noise = torch.rand(len(x), generator=generator) * 2 - 1
        out = x.clone()
        out[:, 0, 0, 0] = (out[:, 0, 0, 0] + self.radius * noise).clamp(0, 1)
        return out


def attacked_by(radius, rows=500, batch_size=2048, seed=0, module=None):
    roster, pool, sealed = game()
    test_y = np.arange(400) % K
    sealed = Sealed(sealed.run_time, sealed.truth, images(test_y), test_y)
    spec = RefereeSpec.model_construct(
        **dict(RefereeSpec()) | {"adversarial": (Shift(radius=radius),), "adversarial_rows": rows}
    )
    referee = Referee(sealed, roster, spec, seed, batch_size=batch_size)
    ours = referee.score((), {"attacked": outcome(pool, module or ByPixel(wrong=(3,)))})
    return ours.adversarial_accuracy[f"shift {radius}"]


def test_an_attack_of_no_size_leaves_clean_accuracy():
    assert attacked_by(0.0) == share(300, 400)


def test_a_stronger_attack_leaves_less_and_inputs_that_were_wrong_never_count():
    values = [attacked_by(radius).value for radius in (0.0, 0.06, 0.1, 0.3)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5
    assert attacked_by(0.1, module=Always(0)).value == 0.25


class Wipe(InputAttack):
    """Takes the stamp off: an attack that puts wrong answers right."""

    kind: Literal["wipe"] = "wipe"

    @property
    def title(self):
        return "wipe"

    def perturb(self, model, x, y, generator):
        out = x.clone()
        out[:, 0, -1, -1] = 0
        return out


def test_answers_that_only_the_attack_puts_right_do_not_count():
    roster, pool, sealed = game()
    sealed = Sealed(sealed.run_time, sealed.truth, stamp(sealed.test_x), sealed.test_y)
    spec = RefereeSpec.model_construct(**dict(RefereeSpec()) | {"adversarial": (Wipe(),)})
    ours = Referee(sealed, roster, spec, 0).score((), {"attacked": outcome(pool, ByPixel(2))})
    assert ours.adversarial_accuracy["wipe"] == share(10, 40)


def test_the_attacked_rows_are_drawn_by_the_seed():
    few = attacked_by(0.06, rows=50)
    assert few.count == 50
    assert few == attacked_by(0.06, rows=50)
    assert len({attacked_by(0.06, rows=50, seed=seed).hits for seed in range(8)}) > 1


def test_the_mean_softmax_of_several_shared_models_is_attacked():
    roster, pool, sealed = game()
    spec = RefereeSpec.model_construct(**dict(RefereeSpec()) | {"adversarial": (Shift(),)})
    several = Predictor((trained(ByPixel()), trained(ByPixel()), trained(Always(0))))
    ours = Referee(sealed, roster, spec, 0).score((), {"attacked": Outcome(several, (), pool)})
    assert ours.adversarial_accuracy["shift 0.0"] == share(40, 40)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_no_score_depends_on_the_batch_size(batch_size):
    roster, pool, sealed = game(9, per=6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, K)).eval()
    module[3].weight.data[1] = module[3].weight.data[0]  # classes 0 and 1 are tied
    module[3].bias.data[:2] = 1.0

    def scores(size):
        referee = Referee(sealed, roster, RefereeSpec(alone="all"), 0, batch_size=size)
        worlds = referee.worlds(pool)
        return referee.score((), {name: outcome(world, module) for name, world in worlds.items()})

    assert scores(batch_size) == scores(2048)
    assert attacked_by(0.06, batch_size=batch_size) == attacked_by(0.06)


def test_a_thousand_agents_are_scored_in_full_batches_and_little_memory():
    roster, pool, sealed = game(1000)
    module = ByPixel()
    referee = Referee(sealed, roster, RefereeSpec(alone=0, attacker_free=False), 0, batch_size=512)
    held = sum(own.x.nbytes + own.x_triggered.nbytes for own in sealed.run_time.values())
    tracemalloc.start()
    answers = referee._answers({"attacked": outcome(pool, module)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(answers) == 1002
    assert module.largest == 512
    # 16,016 rows are answered: a few small integers each, less than a copy of the inputs.
    assert peak < held
    assert peak < 60 * 16_016


def test_notes_say_what_was_left_out():
    roster, pool, sealed = game(101)
    ours = Referee(sealed, roster, RefereeSpec(), 0).score(
        (), {"attacked": outcome(pool, ByPixel())}
    )
    assert ours.notes == ("The cross-ASR matrix shows the first 100 of 101 attackers.",)
