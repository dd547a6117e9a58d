"""A rule's decision covers the whole state: buffers and tied names follow the weights' fate."""

import found_rules
import pytest
import torch
from found_methods import cases
from sklearn.datasets import load_digits
from torch import nn

from learning.hostile_buffers import hostile_buffers
from learning.method import discover
from learning.models.base import Architecture
from learning.server_optimizers.fedadam import FedAdam
from learning.server_optimizers.fedavg import FedAvg
from learning.weights import WeightLayout
from strategies.aggregation.base import Context
from strategies.aggregation.krum import Krum
from strategies.aggregation.mean import Mean
from strategies.aggregation.median import Median
from strategies.aggregation.parts.buffers import Buffers, far_off
from strategies.aggregation.parts.chain import infeasible
from strategies.aggregation.updates import Updates
from strategies.federated import DefencePipeline, ServerState, play_round

F, N = 2, 11
RULES, STEPS = found_rules.rules(F), found_rules.steps(F)
LINES = {kind: [rule] for kind, rule in RULES.items()} | {
    f"{step}, {kind}": [STEPS[step], rule] for kind, rule in RULES.items() for step in STEPS
}
LINES = {name: line for name, line in LINES.items() if infeasible(line[-1], line[:-1], N) is None}
DEFENDED = [name for name, line in LINES.items() if not (line[-1].undefended and len(line) == 1)]
ARCHITECTURES = discover(Architecture, "learning.models")


def names_of(n):
    return tuple(f"agent-{at:02}" for at in range(n))


def updates_of(rows, weights=None):
    weights = torch.ones(len(rows), dtype=torch.float64) if weights is None else weights
    return Updates(rows, weights, names_of(len(rows)))


def played(line, updates, layout, states, before, optimizer=None):
    """Return the round of some states whose weights are `updates`."""
    own = updates.matrix.double().mean(0)
    buffers = Buffers(updates.agents, layout.stacked(states), layout.variances)
    standing = ServerState(torch.zeros(updates.width), layout.rest(before))
    context = Context(seed=3, own=own)
    return play_round(
        DefencePipeline.of(line),
        standing,
        updates,
        buffers,
        context,
        optimizer or FedAvg(),
        "median",
    )


def some_updates(n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 30, generator=generator) + torch.randn(30, generator=generator)


def some_states(start, n=N, seed=1):
    """Return n honest-looking states: buffers that differ a little from agent to agent."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(n):
        state = {name: value.clone() for name, value in start.items()}
        for name, value in state.items():
            if value.is_floating_point():
                draws = torch.randn(value.shape, generator=generator)
                state[name] = value + (0.1 * draws).clamp(-0.5, 0.5)
            else:
                state[name] = value + 5
        states.append(state)
    return states


def spoilt(layout, state, shift=1e6, factor=1e-9, seed=5):
    """Return a state with hostile buffers."""
    generator = torch.Generator().manual_seed(seed)
    buffers = {name: state[name] for name in layout.buffers}
    bad = hostile_buffers(buffers, layout.variances, layout.counters, shift, factor, generator)
    return {**state, **bad}


class Normed(nn.Module):
    """A small classifier of digits with two normalisations."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(64),
            nn.Linear(64, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, 10)

    def features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.head(self.features(x))


class Tied(nn.Module):
    """A weight of two names, a layer of two names, frozen parameters and buffers of many kinds."""

    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.dec.weight = self.enc.weight
        self.norm = nn.BatchNorm1d(4)
        self.again = self.norm
        self.head = nn.Linear(4, 2)
        self.head.bias.requires_grad_(False)
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("moving", torch.ones(3))
        self.register_buffer("seen", torch.tensor(0))
        self.variances, self.counters = ("moving",), ("seen",)


@pytest.mark.parametrize("name", sorted(LINES))
def test_an_agent_of_no_trust_changes_no_entry(name):
    """Case bn-statistics: Krum removes an agent, and its statistics entered the model."""
    model = Normed()
    layout, states, updates = (
        WeightLayout(model),
        some_states(model.state_dict()),
        updates_of(some_updates()),
    )
    # Two agents far away, which most rules drop.
    updates.matrix[:F] *= -30
    first = played(LINES[name], updates, layout, states, model.state_dict())
    result = first.aggregate
    none = result.trust == 0 if result.trust is not None else None
    if none is None and result.selected is not None:
        none = ~result.selected
    if none is None or not none.any():
        assert result.trust is None or len(LINES[name]) > 1 or not hasattr(LINES[name][0], "f")
        return
    few = none.nonzero()[:F, 0].tolist() if LINES[name][-1].majority else none.nonzero()[:, 0]
    other = [spoilt(layout, s) if at in few else s for at, s in enumerate(states)]
    again = played(LINES[name], updates, layout, other, model.state_dict())
    assert torch.equal(first.standing.weights, again.standing.weights)
    for key, value in first.standing.buffers.items():
        assert torch.equal(value, again.standing.buffers[key]), key


class Digits:
    """A model of random features and a fitted head, and the buffers that honest agents find.

    Only the buffers differ from agent to agent, but for a little noise on the weights.
    """

    def __init__(self, model, n=N, rows=60, size=8):
        digits = load_digits()
        x = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
        if size > 8:
            x = nn.functional.interpolate(x, size=(size, size))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        x, self.y = x[order], torch.tensor(digits.target)[order]
        self.model, self.layout = model, WeightLayout(model)
        self.before = {name: value.clone() for name, value in model.state_dict().items()}
        self.test = x[n * rows : n * rows + 300], self.y[n * rows : n * rows + 300]
        states = [self._measured(x[at * rows : at * rows + rows]) for at in range(n)]
        self._fit(states, x[: n * rows], self.y[: n * rows])
        head = {k: v.clone() for k, v in model.state_dict().items() if k in self.layout.weights}
        self.before |= head
        self.states = [state | head for state in states]

    def _measured(self, x):
        """Return the state of an agent that has seen x in one batch."""
        self.model.load_state_dict(self.before)
        self.model.train()
        for layer in self.model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.momentum = 1.0
        with torch.no_grad():
            self.model(x)
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def _fit(self, states, x, y):
        stacked = self.layout.stacked(states)
        mean = {k: v.double().mean(0).to(v.dtype) for k, v in stacked.items()}
        self.model.load_state_dict(self.before | mean)
        self.model.eval()
        with torch.no_grad():
            z = self.model.features(x).double()
            centre, scale = z.mean(0), z.std(0) + 1e-3
            z = (z - centre) / scale
            targets = torch.eye(10, dtype=torch.float64)[y] - 0.1
            weight = torch.linalg.solve(
                z.T @ z + 10 * torch.eye(z.shape[1]).double(), z.T @ targets
            )
            head = [m for m in self.model.modules() if isinstance(m, nn.Linear)][-1]
            head.weight.copy_((weight / scale[:, None]).T)
            head.bias.copy_(-(centre / scale) @ weight)

    def accuracy(self, line, states, rows):
        """Return the round's model's share of right answers, and the round."""
        result = played(line, updates_of(rows), self.layout, states, self.before)
        state = self.layout.unflat(self.layout.flat(self.before), result.standing.buffers)
        self.model.load_state_dict(state)
        self.model.eval()
        with torch.no_grad():
            answers = self.model(self.test[0]).argmax(1)
        for name in self.layout.variances:
            assert float(state[name].min()) >= 0
        for name in self.layout.counters:
            assert state[name].dtype == torch.int64
            assert int(state[name]) >= 0
        return float((answers == self.test[1]).double().mean()), result


ATTACKS = {
    "far means": {"shift": 1e6, "factor": 1.0},
    "means a little off": {"shift": 3.0, "factor": 1.0},
    "no variance": {"shift": 0.0, "factor": 0.0},
    "huge variances": {"shift": 0.0, "factor": 1e9},
    "all at once": {"shift": 1e9, "factor": 1e-9},
}


@pytest.fixture(scope="module")
def normed():
    torch.manual_seed(0)
    return Digits(Normed())


@pytest.mark.parametrize("name", DEFENDED)
def test_hostile_buffers_beside_honest_weights_cost_no_accuracy(name, normed):
    """With f agents sending buffers of any kind the model is as good as without them."""
    rows = 1e-3 * some_updates()
    # The attackers' weights are the most honest of all, so that a rule that takes one takes theirs.
    rows[:F] = rows[F:].mean(0) + 1e-6 * rows[:F]
    honest, _ = normed.accuracy(LINES[name], normed.states, rows)
    assert honest > 0.8
    for attack, how in ATTACKS.items():
        bad = [spoilt(normed.layout, s, **how, seed=3) for s in normed.states[:F]]
        attacked, _ = normed.accuracy(LINES[name], bad + normed.states[F:], rows)
        assert attacked >= honest - 0.02, attack
    stale = [normed.before] * F + normed.states[F:]
    assert normed.accuracy(LINES[name], stale, rows)[0] >= honest - 0.02


def test_the_plain_mean_is_spoilt_by_them(normed):
    """The control of the test above: without a defence these attacks ruin the model."""
    rows = 1e-3 * some_updates()
    honest, _ = normed.accuracy([], normed.states, rows)
    for attack in ("far means", "huge variances", "all at once"):
        bad = [spoilt(normed.layout, s, **ATTACKS[attack]) for s in normed.states[:F]]
        attacked, result = normed.accuracy([], bad + normed.states[F:], rows)
        assert attacked < honest - 0.3, attack
        assert result.note == ""


def test_who_has_no_say_is_told_and_nobody_among_the_honest(normed):
    rows = 1e-3 * some_updates()
    for line in LINES.values():
        assert "no say" not in normed.accuracy(line, normed.states, rows)[1].note
    bad = [spoilt(normed.layout, s) for s in normed.states[:F]]
    told = normed.accuracy([RULES["geometric_median"]], bad + normed.states[F:], rows)[1].note
    assert told == "buffers far from those of the others have no say: agent-00, agent-01"
    bad = [s | part for s, part in zip(normed.states[:F], parts_spoilt(normed), strict=True)]
    told = normed.accuracy([RULES["geometric_median"]], bad + normed.states[F:], rows)[1].note
    assert told == "buffers far from those of the others have no say: agent-00, agent-01"


def parts_spoilt(normed):
    """Return hostile means alone, and hostile counters alone."""
    bad = spoilt(normed.layout, normed.states[0])
    counters = {name: bad[name] for name in normed.layout.counters}
    floats = {n: bad[n] for n in normed.layout.buffers if n not in normed.layout.counters}
    return floats, counters


def built(architecture):
    """Return a model of the smallest images it takes, on which no time is spent for weights."""
    for size in (8, 32):
        try:
            with torch.device("meta"):
                model = architecture.build((3, size, size), 10)
        except ValueError:
            continue
        model = model.to_empty(device="cpu")
        for name, buffer in model.named_buffers():
            buffer.fill_(1 if "var" in name else 0)
        return model
    raise AssertionError(f"{architecture.kind} takes no images of 32x32")


NORMED = {kind: found for kind, found in sorted(ARCHITECTURES.items()) if not found.batchable}


@pytest.mark.parametrize(("kind", "fields"), cases(NORMED, {"timm": ({"name": "resnet10t"},)}))
def test_in_every_architecture_buffers_follow_the_rule(kind, fields):
    model = built(NORMED[kind](**fields))
    layout, before = WeightLayout(model), model.state_dict()
    assert layout.buffers
    assert len(layout.variances) == len(layout.counters) == len(layout.buffers) / 3
    rest = {name: before[name] for name in layout.buffers}
    states = some_states(rest, 7)
    rows = some_updates(7)
    rows[0] = rows[1:].mean(0)  # the attacker's weights are what Krum takes
    honest = layout.stacked(states[1:])
    bad = [spoilt(layout, states[0]), *states[1:]]
    for line in ([Krum(f=1)], [RULES["multi_krum"]], [Median()], [RULES["geometric_median"]]):
        result = played(line, updates_of(rows), layout, bad, before)
        for name, value in result.standing.buffers.items():
            assert (honest[name].amin(0) <= value).all()
            assert (value <= honest[name].amax(0)).all()
    rows[0] = 100  # and now it does not
    first, again = (
        played([Krum(f=1)], updates_of(rows), layout, some, before) for some in (states, bad)
    )
    for name, value in first.standing.buffers.items():
        assert torch.equal(value, again.standing.buffers[name])


def test_honest_buffers_are_averaged_by_share_and_counters_stay_whole():
    """Case buffers-averaged: a plain mean counts buffers as it counts weights."""
    values = {
        "mean": torch.tensor([[1.0, 3.0], [3.0, 5.0]]),
        "var": torch.tensor([[2.0, 4.0], [4.0, 2.0]]),
        "count": torch.tensor([10, 20]),
    }
    before = {name: torch.zeros_like(value[0]) for name, value in values.items()}
    updates = updates_of(torch.zeros(2, 3), torch.tensor([5.0, 5.0], dtype=torch.float64))
    buffers = Buffers(updates.agents, values, {"var": 1e-5})
    for line in ([], [Mean()], [RULES["geometric_median"]]):
        round_ = play_round(
            DefencePipeline.of(line),
            ServerState(torch.zeros(3), before),
            updates,
            buffers,
            Context(),
            FedAvg(),
        )
        after = round_.standing.buffers
        assert after["mean"].tolist() == [2.0, 4.0]
        assert after["var"].tolist() == [3.0, 3.0]
        assert after["count"].dtype == torch.int64
        assert int(after["count"]) == (15 if line in ([], [Mean()]) else 10)
    thrice = updates_of(torch.zeros(2, 3), torch.tensor([1.0, 3.0], dtype=torch.float64))
    after = play_round(
        DefencePipeline.of([]),
        ServerState(torch.zeros(3), before),
        thrice,
        buffers,
        Context(),
        FedAvg(),
    ).standing.buffers
    assert after["mean"].tolist() == [2.5, 4.5]


def test_what_shares_leave_over_stays_with_the_models_own_buffers():
    values = {"mean": torch.tensor([[8.0], [8.0], [8.0]])}
    rows = torch.eye(3) * 2
    buffers = Buffers(names_of(3), values)
    line = DefencePipeline.of(
        [found_rules.example(found_rules.RULES["norm_clipping"], 0, bound=1.0)]
    )
    start = ServerState(torch.zeros(3), {"mean": torch.tensor([0.0])})
    after = play_round(line, start, updates_of(rows), buffers, Context(), FedAvg()).standing
    assert after.buffers["mean"].tolist() == pytest.approx([4.0])  # clipped to half of its way
    assert after.weights.tolist() == pytest.approx([1 / 3] * 3)


def test_a_rule_that_trusts_nobody_leaves_the_buffers():
    values, rows = {"mean": torch.full((3, 2), 8.0)}, torch.ones(3, 3)
    start = ServerState(torch.zeros(3), {"mean": torch.zeros(2)})
    foolsgold = DefencePipeline.of([RULES["foolsgold"]])
    buffers = Buffers(names_of(3), values)
    after = play_round(foolsgold, start, updates_of(rows), buffers, Context(), FedAvg())
    assert after.standing.buffers["mean"].tolist() == [0.0, 0.0]
    assert after.note == "all histories are copies: the model stays"


def test_the_server_optimiser_steps_weights_alone(normed):
    rows = 1e-3 * some_updates()
    for line in ([], [RULES["krum"]]):
        one, other = (
            played(line, updates_of(rows), normed.layout, normed.states, normed.before, optimizer)
            for optimizer in (FedAvg(), FedAdam())
        )
        assert not torch.equal(one.standing.weights, other.standing.weights)
        for name, value in one.standing.buffers.items():
            assert torch.equal(value, other.standing.buffers[name])


def test_a_fallback_and_a_skipped_round(normed):
    few, rows = normed.states[:4], 1e-3 * some_updates(4)
    bad = [*few[:3], spoilt(normed.layout, few[3])]
    for states in (few, bad):
        result = played([Krum(f=2)], updates_of(rows), normed.layout, states, normed.before)
        assert result.fallback == "median"
        for name, value in result.standing.buffers.items():
            stacked = normed.layout.stacked(few)[name]
            assert (stacked.amin(0) <= value).all()
            assert (value <= stacked.amax(0)).all()
    buffers = Buffers(names_of(4), normed.layout.stacked(few), normed.layout.variances)
    start = ServerState(torch.zeros(30), normed.layout.rest(normed.before))
    line = DefencePipeline.of([Krum(f=2)])
    skipped = play_round(line, start, updates_of(rows), buffers, Context(), FedAvg())
    assert skipped.standing is start


def test_a_tied_weight_moves_as_the_rule_moves_it():
    """Case tied-weights: the second name was averaged as a buffer and overwrote the first."""
    model = Tied()
    layout, base = WeightLayout(model), {k: v.clone() for k, v in model.state_dict().items()}

    def moved(by):
        state = {name: value.clone() for name, value in base.items()}
        state["enc.weight"] += by
        state["dec.weight"] = state["enc.weight"].clone()
        state["head.bias"] += by
        return state

    states = [moved(by) for by in (0.1, 0.1, 0.1, 0.1, 1000.0)]
    states[4]["dec.weight"] += 7  # which is nobody's weight
    start = layout.flat(base)
    updates = updates_of(torch.stack([layout.flat(state) - start for state in states]))
    buffers = Buffers(updates.agents, layout.stacked(states), layout.variances)
    after = play_round(
        DefencePipeline.of([Median()]),
        ServerState(start, layout.rest(base)),
        updates,
        buffers,
        Context(),
        FedAvg(),
    ).standing
    model.load_state_dict(layout.unflat(after.weights, after.buffers))
    for weight in (model.enc.weight, model.dec.weight):
        torch.testing.assert_close(weight.detach() - base["enc.weight"], torch.full((4, 4), 0.1))
    assert torch.equal(model.head.bias, base["head.bias"])  # frozen


def test_buffers_of_other_kinds_are_robust_too():
    """Truth values, counters under other names, and a variance that a plug-in's layer names."""
    model = Tied()
    layout = WeightLayout(model)
    assert set(layout.variances) == {"norm.running_var", "moving"}
    assert layout.counters == {"norm.num_batches_tracked", "seen"}
    base = model.state_dict()
    states = [{k: v.clone() for k, v in base.items()} for _ in range(5)]
    for k, state in enumerate(states):
        state["moving"] *= 1 + 0.01 * k
        state["seen"] += 5
    states[0] |= {
        "mask": ~base["mask"],
        "moving": torch.zeros(3),
        "seen": torch.tensor(10**11),
    }
    rows = some_updates(5)
    rows[0] = rows[1:].mean(0)
    for line in ([Krum(f=1)], [RULES["geometric_median"]], [Median()]):
        after = played(line, updates_of(rows), layout, states, base).standing.buffers
        assert torch.equal(after["mask"], base["mask"])
        assert ((after["moving"] >= 1.01) & (after["moving"] <= 1.04)).all()
        assert int(after["seen"]) == 5


def test_nobody_is_far_off_among_two_or_among_copies():
    two = {"mean": torch.tensor([[0.0, 1.0], [1e9, 5.0]])}
    assert not far_off(two, {}).any()
    assert not far_off({"mean": torch.ones(6, 4)}, {}).any()
    one = torch.ones(6, 4)
    one[5, 2] = 1.5
    assert far_off({"mean": one}, {}).tolist() == [False] * 5 + [True]
    assert not far_off({}, {}).any()


def test_variances_are_compared_by_their_logarithms():
    draws = 1 + 0.3 * torch.rand(7, 50, generator=torch.Generator().manual_seed(0))
    values = draws * torch.logspace(-4, 2, 50)
    values[6] /= 100  # next to nothing beside the largest variances
    assert far_off({"v": values}, {"v": 1e-9}).tolist() == [False] * 6 + [True]
