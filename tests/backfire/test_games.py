"""Whole games: shipped scenarios, equal seeds, quarantine, the seal, both runtimes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict
from safetensors.numpy import load_file

from backfire.playing import PlayError, play
from backfire.runtimes.local import LocalGrid
from clients.data_attacks.backdoor import Backdoor
from learning.data.partition.iid import IID
from learning.data.sketch import Sketch
from learning.training.engine.engine import Engine
from learning.wire import RECORD, pack
from scenarios.loader import load, parse
from scenarios.text.errors import ScenarioError
from server.store.run_folder import RunFolder
from small_games import LIBRARY, ROOT, called, small

QUICKSTART = ROOT / "scenarios" / "quickstart.yaml"


def model(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def same_model(a: Path, b: Path) -> bool:
    return (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    scenario = small(QUICKSTART)
    return scenario, play(scenario, out=out), out


@pytest.mark.parametrize("path", LIBRARY, ids=called)
def test_every_shipped_scenario_plays_small(path, tmp_path):
    played = play(small(path), out=tmp_path)
    folder = RunFolder.open(played.folder)
    result = folder.result()
    assert result == played.result
    assert all(agent.admitted for agent in result.roster)
    parts = {name: one for part in result.games for name, one in part.defenders.items()}
    named = [parts.get(name, name) for name in result.defenders]
    assert list(dict.fromkeys(named)) == list(load(path).defenders)
    assert played.report.stat().st_size > 10_000
    for scores in result.defenders.values():
        assert scores.clean_accuracy.count == result.rows["test"]
        for agent in result.roster:
            asr = scores.agents[agent.name].asr
            if agent.malicious and asr is not None:
                assert 0 <= asr.hits <= asr.count


def test_equal_seeds_give_equal_bytes_and_another_seed_does_not(quick):
    scenario, played, out = quick
    again = play(scenario, out=out)
    assert again.folder != played.folder
    assert same_model(played.folder, again.folder)
    same = again.result.model_copy(update={"seconds": played.result.seconds})
    assert same.model_dump_json() == played.result.model_dump_json()
    other = play(scenario.model_copy(update={"seed": 1}), out=out)
    assert not same_model(played.folder, other.folder)


def test_the_run_folder_replays_itself(quick, tmp_path):
    _, played, _ = quick
    again = play(load(played.folder / "scenario.yaml"), out=tmp_path)
    assert same_model(played.folder, again.folder)


def test_defenders_do_not_depend_on_each_other(quick, tmp_path):
    """A defender in company ends with the model that it ends with alone."""
    scenario, played, _ = quick
    together = model(played.folder)
    for name, defences in scenario.defenders.items():
        solo = scenario.model_copy(update={"defenders": {name: defences}})
        alone = model(play(solo, out=tmp_path).folder)
        for key, value in alone.items():
            np.testing.assert_allclose(together[key], value, atol=1e-5, err_msg=key)


class Faulty(LocalGrid):
    """Replaces the contribution of one agent."""

    def __init__(self, grid, agent, fault):
        self.__dict__.update(grid.__dict__)
        self.fault = fault
        self.node = next(node for node, name in self._nodes.items() if name == agent)

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.dst_node_id != self.node or not reply.has_content():
            return reply
        if message.metadata.message_type != "query.contribute":
            return reply
        arrays = {k: a.numpy().copy() for k, a in reply.content.array_records[RECORD].items()}
        return Message(self.fault(arrays), reply_to=message)


def nan(arrays):
    arrays["x"].flat[3] = np.nan
    return pack(arrays)


def label(arrays):
    arrays["y"][0] = 10
    return pack(arrays)


def short(arrays):
    return pack({name: array[:-1] for name, array in arrays.items()})


def nothing(arrays):
    return RecordDict()


@pytest.mark.parametrize(
    ("fault", "code"),
    [(nan, "non_finite"), (label, "label"), (short, "shape"), (nothing, "keys")],
)
def test_a_quarantined_agent_leaves_the_game_of_the_others(fault, code, quick, tmp_path):
    """The result with a bad contribution is that of a game without it, bit for bit."""
    scenario, _, _ = quick
    name = scenario.roster()[2].name
    bad = play(scenario, out=tmp_path, wrap=lambda grid: Faulty(grid, name, fault))
    absent = play(
        scenario, out=tmp_path, wrap=lambda grid: Faulty(grid, name, lambda arrays: RecordDict())
    )
    assert [(q.agent, q.code) for q in bad.result.quarantined] == [(name, code)]
    assert same_model(bad.folder, absent.folder)
    assert bad.result.defenders == absent.result.defenders
    assert name not in bad.result.defenders["undefended"].agents
    assert "quarantined" in " ".join(bad.result.verdict)
    log = RunFolder.open(bad.folder).rounds()
    assert log[0]["quarantined"][0]["agent"] == name


@pytest.fixture
def lame(monkeypatch):
    """One group of attackers whose own code gives up."""
    whole = Backdoor.play

    def play(self, share, seat):
        if seat.group == "mallory":
            raise ValueError("expected 30 reasons, got none")
        return whole(self, share, seat)

    monkeypatch.setattr(Backdoor, "play", play)


def test_agents_that_cannot_play_are_quarantined_with_their_own_words(tmp_path, lame):
    played = play(small(QUICKSTART), out=tmp_path)
    refused = played.result.quarantined
    assert [(q.agent, q.code) for q in refused] == [
        ("mallory-01", "error"),
        ("mallory-02", "error"),
    ]
    assert all("30" in q.message for q in refused)


def test_too_many_agents_for_the_data_is_one_line(tmp_path, monkeypatch):
    """Where the partition does not tell before it deals."""
    monkeypatch.setattr(IID, "least", lambda self, agents: 0)
    resolved = small(QUICKSTART).resolved()
    resolved["agents"][0]["count"] = 5000
    with pytest.raises(PlayError, match="rows") as caught:
        play(parse(json.dumps(resolved), "many"), out=tmp_path)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_data_that_only_loading_tells_is_refused_before_training(
    tmp_path, monkeypatch
):
    """Case trigger-outside, for a data set of which nothing is known before."""
    scenario = small(QUICKSTART)
    monkeypatch.setattr(type(scenario.data), "sketch", Sketch())
    monkeypatch.setattr(type(scenario.data), "known_classes", None)
    resolved = scenario.resolved()
    resolved["agents"][1]["behaviour"]["trigger"] = {"kind": "patch", "size": 30}
    resolved["agents"][1]["behaviour"]["target"] = {"kind": "fixed", "label": 10}
    scenario, trained = parse(json.dumps(resolved), "bad"), []
    monkeypatch.setattr(Engine, "train", lambda self, jobs: trained.append(jobs))
    with pytest.raises(ScenarioError) as caught:
        play(scenario, out=tmp_path)
    assert not trained
    assert caught.value.lines == (
        "scenario agents[1].behaviour.target.label: expected a label from 0 to 9, got 10",
        "scenario agents[1].behaviour.trigger: expected inputs of at least 30x30 pixels for this "
        "trigger, got 8x8",
    )


def test_a_table_without_a_row_is_one_line_that_says_why(tmp_path, lame):
    resolved = small(QUICKSTART).resolved()
    resolved["agents"] = resolved["agents"][1:2]
    resolved |= {"defender_share": 0, "defenders": {"undefended": []}}
    with pytest.raises(
        PlayError, match=r"every contribution was quarantined.*30 reasons"
    ) as caught:
        play(parse(json.dumps(resolved), "none"), out=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_training_that_diverged_is_told(tmp_path):
    resolved = small(QUICKSTART).resolved()
    resolved["training"]["optimizer"] = {"kind": "sgd", "lr": 100.0, "momentum": 0.9}
    resolved["defenders"] = {"undefended": []}
    told = play(parse(json.dumps(resolved), "wild"), out=tmp_path).result.verdict
    assert any("diverged" in sentence for sentence in told)


class Lying(LocalGrid):
    """Changes one part of what one agent reveals to the referee."""

    def __init__(self, grid, agent, lies):
        self.__dict__.update(grid.__dict__)
        self.lies = lies
        self.node = next(node for node, name in self._nodes.items() if name == agent)

    def _answer(self, message):
        reply = super()._answer(message)
        if message.metadata.message_type != "query.reveal":
            return reply
        if message.metadata.dst_node_id != self.node:
            return reply
        arrays = {k: a.numpy().copy() for k, a in reply.content.array_records[RECORD].items()}
        for part, lie in self.lies.items():
            lie({k.removeprefix(f"{part}."): a for k, a in arrays.items() if k.startswith(part)})
        return Message(pack(arrays), reply_to=message)


def set_to(name, value):
    def lie(arrays):
        arrays[name][:] = value

    return lie


OWN_ALONE = {"asr_untrained", "asr_alone", "interference", "clean_accuracy_alone"}


@pytest.mark.parametrize(
    ("lies", "touched"),
    [
        # Labels and triggers of its run-time set: its own scores, and nothing else.
        ({"run_time": set_to("y", 0)}, set()),
        ({"triggered": set_to("x", 0.0)}, set()),
        # What its rows were: the games without attackers, so the controls of others as well.
        ({"clean": set_to("x", 0.0)}, OWN_ALONE),
    ],
)
def test_a_lying_reveal_changes_no_model_and_no_score_of_an_attacked_agent(
    lies, touched, quick, tmp_path
):
    scenario, honest, _ = quick
    liar = next(place.name for place in scenario.roster() if place.group.name == "mallory")
    lied = play(scenario, out=tmp_path, wrap=lambda grid: Lying(grid, liar, lies))
    assert not lied.result.quarantined
    assert same_model(lied.folder, honest.folder)
    changed = set()
    for name, scores in lied.result.defenders.items():
        before = honest.result.defenders[name]
        assert scores.clean_accuracy == before.clean_accuracy
        assert scores.adversarial_accuracy == before.adversarial_accuracy
        for agent, own in scores.agents.items():
            old, new = before.agents[agent].model_dump(), own.model_dump()
            differs = {key for key in old if old[key] != new[key]}
            if agent != liar:
                assert differs <= touched, (name, agent, differs)
            changed |= differs
    assert changed  # the lie was believed


def test_a_missing_ray_is_one_line_and_leaves_no_folder(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlayError, match="install it with"):
        play(quick[0], out=tmp_path, runtime="ray")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_runtime_is_one_line(tmp_path):
    with pytest.raises(PlayError, match="local"):
        play(small(QUICKSTART), runtime="mars", out=tmp_path)


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_t35_local_and_ray_give_the_same_model(quick, tmp_path):
    scenario, played, _ = quick
    on_ray = play(scenario, runtime="ray", out=tmp_path)
    assert same_model(played.folder, on_ray.folder)
    assert on_ray.result.defenders == played.result.defenders


def test_games_leave_global_state_alone(tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    play(small(QUICKSTART, agents=1, epochs=1), out=tmp_path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == torch.get_num_threads()


def test_a_device_that_is_not_there_is_one_line_and_leaves_no_folder(tmp_path):
    compute = {"device": "cuda:63"}
    with pytest.raises(PlayError, match="cuda:63"):
        play(small(QUICKSTART, compute=compute), out=tmp_path)
    assert list(tmp_path.iterdir()) == []
