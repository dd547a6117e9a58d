"""The federated game: rounds, admission of updates, participation, cohorts, both runtimes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from safetensors.numpy import load_file

from backfire.playing import play
from backfire.runtimes.local import LocalGrid
from learning.seeds import derived_seed
from learning.wire import RECORD, pack
from scenarios.loader import parse
from scenarios.text.errors import ScenarioError
from server.wire import exchange
from small_games import ROOT, small
from strategies.base import Defender
from strategies.federated import DefencePipeline

QUICKSTART = ROOT / "scenarios" / "federated" / "quickstart.yaml"
AGENTS = [
    {"name": "honest", "count": 3, "behaviour": {"kind": "benign"}},
    {
        "name": "mallory",
        "count": 2,
        "behaviour": {
            "kind": "backdoor",
            "poison_rate": 0.5,
            "trigger": {"kind": "random_badnet", "epsilon": 0.3},
        },
    },
]


def scenario(rounds=2, defenders=None, **changes):
    federation = {"rounds": rounds, "local_epochs": 1, **changes.pop("federation", {})}
    return small(
        QUICKSTART,
        players=AGENTS,
        defenders=defenders or {"mean": []},
        federation=federation,
        referee={"alone": 0},
        **changes,
    )


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_each_round_is_told_and_the_model_moves(tmp_path):
    one = play(scenario(1), out=tmp_path)
    two = play(scenario(2), out=tmp_path)
    assert weights(one.folder) != weights(two.folder)
    (rounds,) = two.result.rounds.values()
    assert [entry.round for entry in rounds] == [1, 2]
    assert all(len(entry.admitted) == 5 and not entry.skipped for entry in rounds)
    assert set(rounds[-1].asr) == {"mallory-01", "mallory-02"}
    assert rounds[-1].clean_accuracy == two.result.defenders["mean"].clean_accuracy


def test_equal_seeds_give_equal_bytes(tmp_path):
    first, second = (play(scenario(), out=tmp_path) for _ in range(2))
    assert weights(first.folder) == weights(second.folder)
    assert first.result.rounds == second.result.rounds


class OneByOne(LocalGrid):
    """A grid that knows no cohorts."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self._cohort = None


def test_a_cohort_trains_what_its_agents_train_alone(tmp_path):
    together = play(scenario(), out=tmp_path)
    apart = play(scenario(), out=tmp_path, wrap=OneByOne)
    assert weights(together.folder) == weights(apart.folder)


def test_one_round_of_the_mean_is_the_weighted_mean_of_what_the_agents_sent(tmp_path):
    sent = {}

    class Spy(LocalGrid):
        def __init__(self, grid):
            self.__dict__.update(grid.__dict__)
            self._cohort = None

        def _answer(self, message):
            reply = super()._answer(message)
            if message.metadata.message_type == "train.update":
                ask = message.content.config_records["ask"]
                if ask["world"] == "attacked":
                    arrays = reply.content.array_records[RECORD]
                    name = self._nodes[message.metadata.dst_node_id]
                    sent[name] = {k: a.numpy().astype(np.float64) for k, a in arrays.items()}
            return reply

    played = play(scenario(1), out=tmp_path, wrap=Spy)
    model = load_file(played.folder / "model.safetensors")
    rows = {agent.name: agent.rows for agent in played.result.roster}
    total = sum(rows.values())
    assert set(sent) == set(rows)
    for key in next(iter(sent.values())):
        expected = sum(sent[name][key] * rows[name] / total for name in rows)
        np.testing.assert_allclose(model[f"mean/{key}"], expected, atol=1e-6)


class Faulty(LocalGrid):
    """Replaces the updates of one agent in the attacked game."""

    def __init__(self, grid, agent, fault):
        self.__dict__.update(grid.__dict__)
        self._cohort = None
        self.fault = fault
        self.node = next(node for node, name in self._nodes.items() if name == agent)

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.dst_node_id != self.node or not reply.has_content():
            return reply
        if message.metadata.message_type != "train.update":
            return reply
        arrays = {k: a.numpy().copy() for k, a in reply.content.array_records[RECORD].items()}
        return Message(self.fault(arrays), reply_to=message)


def first(arrays):
    return next(iter(arrays))


def test_a_model_that_answers_with_no_numbers_misses_everything_and_is_told(tmp_path):
    """The case ``nan-logits`` in a game: admitted weights that overflow are no ASR of 100 %."""

    def huge(arrays):
        return pack({k: np.full_like(a, 9e11) for k, a in arrays.items()})

    ended = play(
        scenario(1), out=tmp_path, wrap=lambda grid: Faulty(grid, "mallory-01", huge)
    ).result
    scores, (entry,) = ended.defenders["mean"], ended.rounds["mean"]
    assert scores.clean_accuracy.hits == entry.clean_accuracy.hits == 0
    assert all(own.run_time_accuracy.hits == 0 for own in scores.agents.values())
    assert scores.malicious.asr_all.pooled.hits == 0
    assert entry.note == "all answers of the model are not numbers: misses"
    assert any("answers are not numbers" in note for note in scores.notes)
    sound = play(scenario(1), out=tmp_path).result
    assert sound.defenders["mean"].clean_accuracy.hits > 0
    assert not sound.defenders["mean"].notes
    assert not sound.rounds["mean"][0].note


def bad_nan(arrays):
    arrays[first(arrays)].flat[0] = np.nan
    return pack(arrays)


def bad_infinity(arrays):
    arrays[first(arrays)].flat[0] = -np.inf
    return pack(arrays)


def bad_huge(arrays):
    arrays[first(arrays)].flat[0] = 1e38
    return pack(arrays)


def bad_shape(arrays):
    arrays[first(arrays)] = arrays[first(arrays)][:1]
    return pack(arrays)


def bad_scalar(arrays):
    arrays[first(arrays)] = np.float32(1).reshape(())
    return pack(arrays)


def bad_dtype(arrays):
    arrays[first(arrays)] = arrays[first(arrays)].astype(np.float64)
    return pack(arrays)


def bad_missing(arrays):
    arrays.pop(first(arrays))
    return pack(arrays)


def bad_extra(arrays):
    return pack({**arrays, "num-examples": np.array([10**12])})


def nothing(arrays):
    return RecordDict()


FAULTS = [
    (bad_nan, "non_finite"),
    (bad_infinity, "non_finite"),
    (bad_huge, "range"),
    (bad_shape, "shape"),
    (bad_scalar, "shape"),
    (bad_dtype, "dtype"),
    (bad_missing, "keys"),
    (bad_extra, "keys"),
]
DEFENDERS = {
    "mean": [],
    "median": [{"kind": "median"}],
    "krum": [{"kind": "krum", "f": 0}],
    "mixed": [{"kind": "nearest_neighbour_mixing", "f": 1}, {"kind": "trimmed_mean", "f": 1}],
}


@pytest.fixture(scope="module")
def absent(tmp_path_factory):
    out = tmp_path_factory.mktemp("absent")
    game = scenario(defenders=DEFENDERS)
    return play(game, out=out, wrap=lambda grid: Faulty(grid, "mallory-01", nothing))


@pytest.mark.parametrize(
    ("fault", "code"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_bad_update_leaves_the_aggregate_of_the_rest_bit_for_bit(fault, code, absent, tmp_path):
    game = scenario(defenders=DEFENDERS)
    bad = play(game, out=tmp_path, wrap=lambda grid: Faulty(grid, "mallory-01", fault))
    assert {(q.agent, q.code, q.stage) for q in bad.result.quarantined} == {
        ("mallory-01", code, "update")
    }
    assert weights(bad.folder) == weights(absent.folder)


def test_a_round_without_a_quorum_leaves_the_model_and_the_game_goes_on(tmp_path):
    class AllBad(Faulty):
        def _answer(self, message):
            reply = LocalGrid._answer(self, message)
            is_update = message.metadata.message_type == "train.update"
            return Message(RecordDict(), reply_to=message) if is_update else reply

    played = play(scenario(3), out=tmp_path, wrap=lambda grid: AllBad(grid, "mallory-01", nothing))
    (rounds,) = played.result.rounds.values()
    assert all(entry.skipped and "quorum" in entry.note for entry in rounds)
    assert len({entry.clean_accuracy.hits for entry in rounds}) == 1
    assert any("mean skipped 3 of 3 rounds" in line for line in played.result.verdict)
    assert len(played.result.quarantined) == 2 * 3 * 5  # two worlds, three rounds, five agents


class Down(LocalGrid):
    """Every agent is offline in round 2, until it has been looked for three times."""

    def __init__(self, grid):
        self.__dict__.update(grid.__dict__)
        self._cohort, self.looked = None, None

    def get_node_ids(self):
        if self.looked is not None:
            self.looked += 1
        return super().get_node_ids() if self.looked is None or self.looked > 3 else []

    def _answer(self, message):
        if message.content.config_records["ask"].get("round") == 2 and self.looked is None:
            self.looked = 0
        if self.looked is None or self.looked > 3:
            return super()._answer(message)
        return Message(Error(5, "Node Unavailable"), reply_to=message)


def test_t33_a_game_whose_agents_are_all_offline_waits_and_loses_one_round(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_LONGEST_POLL", 0.01)
    played = play(scenario(4), out=tmp_path, wrap=Down)
    assert [entry.skipped for entry in played.result.rounds["mean"]] == [False, True, False, False]


def test_t33_agents_that_stay_away_hold_a_round_to_its_deadline_only(tmp_path, monkeypatch):
    monkeypatch.setattr(Down, "get_node_ids", lambda self: [])
    played = play(scenario(3, deadline=0.2), out=tmp_path, wrap=Down)
    assert [entry.skipped for entry in played.result.rounds["mean"]] == [False, True, True]


def test_drop_outs_that_make_a_rule_infeasible_skip_the_round(tmp_path):
    game = scenario(defenders={"krum": [{"kind": "krum", "f": 1}]})
    played = play(game, out=tmp_path, wrap=lambda grid: Faulty(grid, "honest-01", nothing))
    (rounds,) = played.result.rounds.values()
    assert all(entry.skipped and "krum" in entry.note for entry in rounds)


def test_participation_is_drawn_by_name_from_the_seed(tmp_path):
    game = scenario(4, federation={"participation": 0.4})
    first, second = (play(game, out=tmp_path) for _ in range(2))
    sampled = [entry.sampled for entry in first.result.rounds["mean"]]
    assert sampled == [entry.sampled for entry in second.result.rounds["mean"]]
    assert all(len(names) == 2 for names in sampled)
    assert len(set(sampled)) > 1


def test_an_agent_of_the_index_is_answered_by_a_federation_without_it(tmp_path):
    """Whatever an agent sends, the model that answers it does not change."""
    defenders = {"indexed": [{"kind": "agent_indexing"}]}
    honest = play(scenario(defenders=defenders), out=tmp_path)

    def wild(arrays):
        return pack({name: array + 1 for name, array in arrays.items()})

    attacked = play(
        scenario(defenders=defenders),
        out=tmp_path,
        wrap=lambda grid: Faulty(grid, "mallory-01", wild),
    )
    before, after = (load_file(p.folder / "model.safetensors") for p in (honest, attacked))
    own = [key for key in before if key.startswith("indexed/mallory-01/")]
    other = [key for key in before if key.startswith("indexed/honest-01/")]
    assert own
    assert all(np.array_equal(before[key], after[key]) for key in own)
    assert not all(np.array_equal(before[key], after[key]) for key in other)


def test_augmentation_is_a_virtual_agent_with_the_defenders_rows(tmp_path):
    defenders = {"mean": [], "augmented": [{"kind": "agent_augmentation", "agents": 2}]}
    played = play(scenario(defenders=defenders), out=tmp_path)
    model = load_file(played.folder / "model.safetensors")
    key = next(key for key in model if key.startswith("mean/"))
    assert not np.array_equal(model[key], model[key.replace("mean/", "augmented/")])


@pytest.mark.parametrize("kind", ["fedavgm", "fedadam", "fedyogi"])
def test_server_optimisers_play(kind, tmp_path):
    game = scenario(federation={"server_optimizer": {"kind": kind}})
    (rounds,) = play(game, out=tmp_path).result.rounds.values()
    assert not any(entry.skipped for entry in rounds)


@pytest.mark.parametrize(
    ("defence", "message"),
    [
        ({"kind": "cutmix"}, "federated game"),
        ({"kind": "spectral_signatures"}, "federated game"),
        ({"kind": "krum", "f": 2}, "2f \\+ 3 = 7"),
        ({"kind": "agent_indexing", "method": "tree"}, "exact or shards"),
    ],
)
def test_what_cannot_be_played_in_rounds_is_refused_before_round_one(defence, message):
    with pytest.raises(ScenarioError, match=message):
        scenario(defenders={"bad": [defence]})


def test_aggregation_rules_are_refused_in_a_pooled_game():
    resolved = scenario().resolved() | {"game": "pooled"}
    resolved["defenders"] = {"bad": [{"kind": "median"}]}
    with pytest.raises(ScenarioError, match="pooled game"):
        parse(json.dumps(resolved), "bad")


def test_fltrust_gets_the_defenders_own_update(tmp_path):
    game = scenario(defenders={"fltrust": [{"kind": "fltrust"}]})
    (rounds,) = play(game, out=tmp_path).result.rounds.values()
    assert not any(entry.skipped for entry in rounds)


def test_batchnorm_statistics_are_aggregated(tmp_path):
    game = scenario(1, model={"kind": "resnet32"})
    model = load_file(play(game, out=tmp_path).folder / "model.safetensors")
    means = [value for key, value in model.items() if key.endswith("running_mean")]
    assert means
    assert all(np.isfinite(value).all() for value in means)
    assert any(np.abs(value).max() > 0 for value in means)


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_t35_local_and_ray_give_the_same_federated_model(tmp_path):
    local = play(scenario(), out=tmp_path)
    on_ray = play(scenario(), runtime="ray", out=tmp_path)
    assert weights(local.folder) == weights(on_ray.folder)


def test_a_part_of_the_index_is_filed_under_its_first_agent_in_scenario_order(tmp_path):
    """Not under whichever a set yields first, which changes from process to process."""
    defenders = {"indexed": [{"kind": "agent_indexing", "method": "shards", "shards": 2}]}
    game = scenario(1, defenders=defenders)
    played = play(game, out=tmp_path)
    names = [agent.name for agent in played.result.roster]
    knows = Defender(derived_seed(game.seed, "defender"), (1, 8, 8), 10, tuple(names), 1)
    parts = DefencePipeline.of(game.defenders["indexed"]).parts(names, knows)
    first_of_each = {min(part, key=names.index) for part in parts.values() if part}
    model = load_file(played.folder / "model.safetensors")
    assert {key.split("/")[1] for key in model} & set(names) == first_of_each
