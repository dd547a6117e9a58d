"""What crafting agents are granted, and that nothing else is in their reach."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from found_methods import cases

from backfire.playing import PlayError, play
from clients.agent_file import AgentFileError, read_agent
from clients.agents import Agents
from clients.crafter_conformance import check_crafter, known_for_checks, recipe_for_checks
from clients.data_attacks.base import AgentContext, Behaviour, Mate, Share
from clients.data_attacks.parts.crafter import Crafter
from clients.data_attacks.parts.follower import Follower, trained
from clients.data_attacks.parts.labels import by_rule
from clients.data_attacks.parts.leaders import Autoencoder, Pixels
from clients.data_attacks.total_gradient import TotalGradient
from learning.curvature.vectors import vector_of
from learning.method import discover
from learning.models.mlp import MLP
from scenarios.loader import parse

FOUND = discover(Behaviour, "clients.data_attacks")
CRAFTERS = [case for case in cases(FOUND) if issubclass(FOUND[case[0]], Crafter)]
GAME = """
name: crafted
game: pooled
data: {{kind: synthetic, classes: 4, height: 6, width: 6, train_per_class: 40, test_per_class: 10}}
model: {{kind: softmax}}
training: {{epochs: 2, batch_size: 8, optimizer: {{kind: sgd, lr: 0.1, momentum: 0.0}}}}
compute: {{device: cpu, threads: 1}}
defender_share: 0.1
agents:
  - {{name: honest, count: 4, behaviour: {{kind: benign}}}}
  - name: m
    count: 2
    behaviour:
      {{kind: total_gradient, rounds: 2, surrogate_steps: 2, knowledge: {knowledge},
       coordination: {coordination}}}
defenders: {{undefended: []}}
referee: {{alone: 0, attacker_free: false}}
"""


def scenario(knowledge="own", coordination="none"):
    return parse(GAME.format(knowledge=knowledge, coordination=coordination), "test")


class Spy:
    """Keeps the contexts that a behaviour is given."""

    def __init__(self, monkeypatch):
        self.seats, self._play = [], Crafter.play

        def watched(behaviour, share, seat):
            self.seats.append((share, seat))
            return self._play(behaviour, share, seat)

        monkeypatch.setattr(Crafter, "play", watched)


def reached(value, seen=None):
    """Return every array that can be reached from a value."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return [value, *reached(value.base, seen)]
    if isinstance(value, torch.Tensor):
        return [value.numpy()]
    if is_dataclass(value):
        inside = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, dict):
        inside = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inside = list(value)
    else:
        inside = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return [array for item in inside for array in reached(item, seen)]


def rows_in(arrays, shape):
    """Return all rows of inputs as bytes."""
    return {
        row.tobytes()
        for array in arrays
        if array.ndim == 4 and array.shape[1:] == shape
        for row in np.ascontiguousarray(array)
    }


@pytest.mark.parametrize("knowledge", ["own", "pool"])
@pytest.mark.parametrize("coordination", ["none", "group"])
def test_nothing_is_reached_that_was_not_granted(knowledge, coordination, monkeypatch):
    game, spy = scenario(knowledge, coordination), Spy(monkeypatch)
    agents = Agents(game)
    dealt = agents.dealt()
    agents.play("m-2" if "m-2" in agents.names else agents.names[-1])
    share, seat = spy.seats[-1]
    found = rows_in(reached((share, seat)), dealt.data.shape)
    splits = {name: agents._share(name) for name in agents.names}
    forbidden = rows_in([dealt.test_x], dealt.data.shape)
    forbidden |= rows_in([s.x_run for n, s in splits.items() if n != seat.name], dealt.data.shape)
    others = {n: rows_in([s.x_train], dealt.data.shape) for n, s in splits.items()}
    defender = rows_in([dealt.x[dealt.defender]], dealt.data.shape)
    assert not found & forbidden
    mates = {name for name in splits if name.startswith("m")}
    for name, rows in others.items():
        granted = name == seat.name or knowledge == "pool"
        granted |= coordination == "group" and name in mates
        assert (rows <= found) if granted else not (rows & found), name
    assert (defender <= found) if knowledge == "pool" else not (defender & found)


@pytest.mark.parametrize(("coordination", "told"), [("none", set()), ("group", {"m-01", "m-02"})])
def test_what_its_group_has_crafted_is_told_only_to_those_that_craft_together(
    coordination, told, monkeypatch
):
    seen, crafted = [], Crafter._crafted

    def watched(behaviour, known, mine):
        seen.append(set(known.crafted))
        return crafted(behaviour, known, mine)

    monkeypatch.setattr(Crafter, "_crafted", watched)
    agents = Agents(scenario("own", coordination), keep_bytes=0)
    for name in ("m-01", "m-02", "m-01"):
        agents.play(name)
    assert seen == [set(), told, told or {"m-01"}]


def test_the_surrogate_has_neither_the_defenders_seed_nor_its_start(monkeypatch):
    game, spy = scenario(), Spy(monkeypatch)
    for name in Agents(game).names[-2:]:
        Agents(game).play(name)
    seeds = {seat.known.recipe.seed for _, seat in spy.seats}
    assert len(seeds) == 2
    assert game.seed not in seeds


def test_only_who_crafts_is_told_anything():
    seen = []

    class Watched(FOUND["benign"]):
        def play(self, share, seat):
            seen.append(seat.known)
            return super().play(share, seat)

    game = scenario()
    groups = (game.agents[0].model_copy(update={"behaviour": Watched()}), *game.agents[1:])
    agents = Agents(game.model_copy(update={"agents": groups}))
    agents.play(agents.names[0])
    assert seen == [None]


def test_the_pools_size_and_the_poisons_share_are_told(monkeypatch):
    game, spy = scenario(), Spy(monkeypatch)
    agents = Agents(game)
    agents.play(agents.names[-1])
    known = spy.seats[-1][1].known
    contributed = sum(len(agents._share(name).y_train) for name in agents.names)
    assert known.pool_rows == contributed + len(agents.dealt().defender)
    problem = TotalGradient()._problem(known, [mate_of(*spy.seats[-1])])
    assert problem.share == pytest.approx(len(problem.y) / known.pool_rows)
    assert len(problem.judge_y) == round(0.3 * (len(problem.judge_y) + len(problem.known_y)))


def mate_of(share, seat):
    return Mate(replace(seat, known=None), share.x_train, share.y_train)


@pytest.mark.parametrize(("knowledge", "coordination"), [("pool", "none"), ("own", "group")])
def test_nobody_grants_others_rows_on_real_machines(knowledge, coordination, tmp_path):
    with pytest.raises(PlayError, match=r"m-\d.* nobody grants it on real machines"):
        play(scenario(knowledge, coordination), runtime="grpc", connection=tmp_path, out=tmp_path)
    (tmp_path / "agent.yaml").write_text(
        "agent: m\nserver: localhost:9\ndata: {kind: digits}\nbehaviour: {kind: total_gradient, "
        f"knowledge: {knowledge}, coordination: {coordination}}}\n"
    )
    with pytest.raises(AgentFileError, match="knows its own rows alone"):
        read_agent(tmp_path)


@pytest.mark.parametrize(("kind", "fields"), CRAFTERS)
def test_every_crafter_keeps_the_contract(kind, fields):
    check_crafter(FOUND[kind](**fields))


def test_the_checks_find_what_breaks_the_contract():
    class Leaky(TotalGradient):
        def craft(self, problem):
            return torch.rand(problem.x.shape)  # from the global generator

    with pytest.raises(AssertionError, match="same bytes"):
        check_crafter(Leaky())

    class Short(TotalGradient):
        def craft(self, problem):
            return torch.tensor(problem.x[:-1])

    with pytest.raises(AssertionError, match="crafted rows that are numbers, of shape"):
        check_crafter(Short())


def test_labels_by_rule():
    y = np.arange(10)
    assert by_rule("keep", y, 10).tolist() == list(range(10))
    assert by_rule("mirror", y, 10).tolist() == list(range(9, -1, -1))
    assert not (by_rule("mirror", y, 10) == y).any()
    assert np.flatnonzero(by_rule("mirror_mod", y, 10) == y).tolist() == [0, 5]
    assert by_rule("mirror_mod", y, 10).max() == 9
    assert by_rule("next", y, 10).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_worst_labels_are_those_that_a_clean_surrogate_holds_for_least_likely():
    share = some_share()
    seat = AgentContext("m", "m", 0, 1, 5, 4, known=known_for_checks(30))
    played = TotalGradient(rounds=1, surrogate_steps=0, labels="worst", surrogate_epochs=60).play(
        share, seat
    )
    assert (played.y != share.y_train).all()


def some_share():
    draws = np.random.default_rng(0)
    y = np.arange(40) % 4
    x = 0.6 * draws.random((40, 1, 6, 6), dtype=np.float32)
    x[np.arange(40), 0, y, :3] += 0.4
    return Share(x[:32], y[:32], x[32:], y[32:])


def follower(share=0.25, rows=24, module=None):
    draws = torch.Generator().manual_seed(3)
    x, y = torch.rand(rows, 1, 6, 6, generator=draws), torch.arange(rows) % 4
    recipe = recipe_for_checks()
    module = module or trained(recipe, x.numpy(), y.numpy())
    return Follower(module, recipe, x, y, share, draws), x, y


def test_the_poison_has_its_share_of_the_followers_loss_whatever_its_rows():
    some, x, y = follower(share=0.25)
    for rows in (2, 12):
        objective = some.objective(x[:rows], y[:rows])
        losses = torch.nn.functional.cross_entropy(some.module(x), y, reduction="none").double()
        expected = 0.75 * losses.mean() + 0.25 * losses[:rows].mean()
        assert objective.value(vector_of(some.module)) == pytest.approx(float(expected), rel=1e-6)


def test_a_followers_step_is_the_defenders_step_on_that_loss():
    some, x, y = follower(share=0.25, rows=6)  # batches of 8: all 6 clean rows, 2 of poison
    before = vector_of(some.module).double()
    objective = some.objective(x[:2], y[:2])
    wanted = before - 0.1 * objective.gradient(before.float()).double()
    some.steps(1, x[:2], y[:2])
    assert torch.allclose(vector_of(some.module).double(), wanted, atol=1e-6)


def test_pixels_go_up_the_direction_within_range_and_radius():
    x = torch.tensor([0.02, 0.5, 0.99]).view(1, 1, 1, 3)
    free, near = Pixels(x, 0.3), Pixels(x, 0.3, radius=0.1)
    direction = torch.tensor([-1.0, 2.0, 3.0]).view_as(x) * 1e-9
    for pixels in (free, near):
        pixels.ascend(direction, 1.0)
    assert torch.allclose(free.rows.flatten(), torch.tensor([0.0, 0.8, 1.0]), atol=1e-5)
    assert torch.allclose(near.rows.flatten(), torch.tensor([0.0, 0.6, 1.0]), atol=1e-5)
    assert torch.equal(x.flatten(), torch.tensor([0.02, 0.5, 0.99]))


def test_the_network_gives_rows_back_and_moves_them_along_the_direction():
    draws = torch.Generator().manual_seed(0)
    x, y = 0.2 + 0.6 * torch.rand(16, 1, 3, 3, generator=draws), torch.arange(16) % 4
    net = Autoencoder(x, y, 4, 0.05, draws)
    first = net.pretrain(x, y, 1, draws)
    assert net.pretrain(x, y, 400, draws) < first / 4
    before, direction = net.rows, torch.randn(16, 1, 3, 3, generator=draws)
    net.ascend(direction, 0.1)
    assert float(((net.rows - before) * direction).sum()) > 0


def test_another_model_can_stand_in_for_the_defenders(monkeypatch):
    built = []
    monkeypatch.setattr(
        MLP, "build", lambda self, *a, _old=MLP.build: (built.append(self), _old(self, *a))[1]
    )
    attack = TotalGradient(rounds=1, surrogate_steps=1, surrogate={"kind": "mlp", "hidden": [5]})
    seat = AgentContext("m", "m", 0, 1, 5, 4, known=known_for_checks(30))
    attack.play(some_share(), seat)
    assert built
    assert built[0].hidden == (5,)


def test_too_few_rows_are_told_in_one_line():
    x = np.full((1, 1, 6, 6), 0.5, np.float32)
    share = Share(x, np.zeros(1, np.int64), x, np.zeros(1, np.int64))
    seat = AgentContext("m", "m", 0, 1, 5, 4, known=known_for_checks())
    with pytest.raises(ValueError, match=r"^total_gradient: expected at least two rows"):
        TotalGradient(rounds=1).play(share, seat)
