"""Agents that are killed, come back, hang, raise, or never come: T1, T2, T6, T11 and late replies.

Real processes on loopback, TLS and keys. What a game with a fault must end with is what a game on
the local runtime ends with in which the same agents miss the same rounds: the same bytes.
"""

import json
import os
import signal
from contextlib import suppress

import psutil
import pytest

from backfire.deployment.operations import status
from backfire.playing import play
from live_deployments import Live, Running, codes, game, missed, replayed, said, weights


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    live = Live(tmp_path_factory.mktemp("live"))
    live.start("alice", "bob")
    yield live
    live.close()


@pytest.fixture
def mallory(live):
    """Start mallory with faults; she is ended with the test."""

    def start(*faults):
        live.start("mallory", faults=faults)
        return live.agents["mallory"]

    yield start
    live.agents["mallory"].end()


def nodes(live):
    """Return every agent's number at the SuperLink, by name."""
    return {agent.name: agent.node_id for agent in status(live.folder).agents}


def group(pid):
    """Return the processes of a group that live."""
    return [p.pid for p in psutil.process_iter() if groups(p.pid) == pid and p.status() != "zombie"]


def groups(pid):
    with suppress(OSError):
        return os.getpgid(pid)
    return None


def test_t35_federated_game_over_tls_gives_the_local_model(live, mallory, tmp_path):
    """T35, and the quick round over TLS with keys."""
    mallory()
    scenario = game(3)
    there, here = live.play(scenario), play(scenario, out=tmp_path)
    assert missed(there) == {}
    assert weights(there) == weights(here)
    assert there.result.defenders == here.result.defenders


def test_t1_an_agent_killed_while_it_trains_costs_its_own_rounds_only(live, mallory, tmp_path):
    agent = mallory("train.update:2:hang")
    agent.when("hang in train.update of round 2", agent.kill)
    scenario = game(2, deadline=10.0)
    played = live.play(scenario)
    assert agent.process.returncode == -signal.SIGKILL
    assert missed(played) == {"mallory": {2}}
    assert codes(played) == {("mallory", "missing")}
    assert said(played)["mallory"] == "round 2, mean: no reply within 10 s"
    assert weights(played) == replayed(scenario, {"mallory": {2}}, tmp_path)


@pytest.mark.deploy
def test_t2_a_killed_agent_comes_back_under_its_name_and_joins_the_next_round(
    live, mallory, tmp_path
):
    agent = mallory("train.update:2:hang")
    before = nodes(live)

    def again():
        agent.kill()
        live.launch("mallory")  # at once: while its last session lasts at the SuperLink

    agent.when("hang in train.update of round 2", again)
    scenario = game(8, deadline=10.0)
    played = live.play(scenario)
    assert nodes(live) == before
    absent = missed(played)
    assert set(absent) == {"mallory"}
    assert 2 in absent["mallory"]
    assert 8 not in absent["mallory"]
    assert weights(played) == replayed(scenario, absent, tmp_path)


@pytest.mark.deploy
def test_t2_a_kit_is_used_by_one_process_at_a_time(live, mallory):
    agent = mallory()
    second = live.follow(Running(["-m", "backfire", "agent", "start", live.made.kits / "mallory"]))
    assert second.wait() == 3
    assert second.count("another process plays with the kit") == 1
    assert agent.process.poll() is None


@pytest.mark.deploy
def test_t6_an_agent_told_to_end_while_it_trains_ends_at_once_and_takes_its_leave(
    live, mallory, tmp_path
):
    """Nobody waits for it: not its owner for the training, not the table for the deadline."""
    agent = mallory("train.update:2:hang")
    agent.when("hang in train.update of round 2", lambda: agent.signal(signal.SIGTERM))
    scenario = game(3, deadline=3000.0)
    played = live.play(scenario)
    assert agent.wait() == 0
    assert not group(agent.pid)
    assert missed(played) == {"mallory": {2, 3}}
    assert said(played)["mallory"] == "round 3, mean: the agent is offline"
    assert weights(played) == replayed(scenario, {"mallory": {2, 3}}, tmp_path)


@pytest.mark.deploy
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_t6_a_table_told_to_end_leaves_a_run_to_resume_and_agents_that_play_on(
    live, mallory, number, code, tmp_path
):
    agent = mallory("train.update:3:slow=5")
    scenario, file = game(3, seed=int(number)), tmp_path / "scenario.yaml"
    file.write_text(json.dumps(scenario.resolved()))
    grpc = ["--runtime", "grpc", "--connection", live.folder]
    table = live.table(["run", file, "--plain", "--out", tmp_path / "runs", *grpc])
    agent.says("slow=5 in train.update of round 3")
    table.signal(number)
    assert table.wait() == code
    assert not group(table.pid)
    assert table.count("backfire resume") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert not (folder / "result.json").exists()
    resumed = live.table(["resume", folder, "--connection", live.folder, "--plain"])
    assert resumed.wait() == 0, resumed.lines
    here = play(scenario, out=tmp_path / "here")
    assert (folder / "model.safetensors").read_bytes() == weights(here)


def test_t11_the_error_of_an_agent_that_raises_reaches_the_result(live, mallory, tmp_path):
    mallory("train.update:2:raise=badly")
    scenario = game(3)
    played = live.play(scenario)
    assert missed(played) == {"mallory": {2}}
    assert codes(played) == {("mallory", "error")}
    assert "RuntimeError: it hurts: badly" in said(played)["mallory"]
    assert weights(played) == replayed(scenario, {"mallory": {2}}, tmp_path)


@pytest.mark.deploy
def test_t11_a_late_reply_counts_for_no_round_and_expired_requests_are_left_alone(
    live, mallory, tmp_path
):
    """The agent hangs over two deadlines; what was asked of it meanwhile costs it nothing."""
    agent = mallory("train.update:2:slow=22", "train.update:*:asked")
    scenario = game(8, deadline=8.0)
    played = live.play(scenario)
    absent = missed(played)["mallory"]
    assert {2, 3} <= absent
    assert 8 not in absent
    agent.says("too late, and not sent: answered train.update")
    asked = {n for n in range(1, 9) if agent.count(f"asked in train.update of round {n}$")}
    assert len(asked & absent) <= 1, "it worked on requests that nobody waited for"
    assert asked | absent == set(range(1, 9))
    assert weights(played) == replayed(scenario, {"mallory": absent}, tmp_path)


@pytest.mark.deploy
def test_t11_a_stopped_agent_leaves_alone_what_was_on_its_way(live, mallory, tmp_path):
    """SIGSTOP and SIGCONT, as on a laptop that sleeps."""
    agent = mallory("train.update:*:asked")
    scenario = game(6, deadline=6.0)

    def sleep(event):
        if event.phase == "round" and event.done == 1:
            agent.signal(signal.SIGSTOP)
        if event.phase == "round" and event.done == 3:
            agent.signal(signal.SIGCONT)

    played = live.play(scenario, sleep)
    absent = missed(played)["mallory"]
    assert {2, 3} <= absent <= {2, 3, 4}
    assert not agent.count("asked in train.update of round 2$")
    assert weights(played) == replayed(scenario, {"mallory": absent}, tmp_path)


@pytest.mark.deploy
def test_an_agent_that_is_not_there_in_time_is_out_of_the_game(live, tmp_path):
    scenario = game(2, joining=2.0)
    played = live.play(scenario)
    assert missed(played) == {"mallory": {1, 2}}
    assert codes(played) == {("mallory", "missing")}
    assert "the agent has not joined" in said(played)["mallory"]
    assert weights(played) == replayed(scenario, {"mallory": {1, 2}}, tmp_path)


@pytest.mark.deploy
@pytest.mark.parametrize("kind", ["pooled", "both", "honest updates"])
def test_t35_every_game_over_tls_gives_the_local_model(live, mallory, kind, tmp_path):
    mallory()
    changes = {"game": kind} if kind != "honest updates" else {}
    if kind == "honest updates":  # a second turn: she sees what the honest have sent
        changes["agents"] = [
            {"name": "alice", "behaviour": {"kind": "benign"}},
            {"name": "bob", "behaviour": {"kind": "benign"}},
            {
                "name": "mallory",
                "behaviour": {"kind": "benign"},
                "update": {"kind": "ipm", "knowledge": "honest"},
            },
        ]
    else:
        changes["defenders"] = {"mean": [], "picky": [{"kind": "cutmix"}]}
    scenario = game(2, **changes)
    there, here = live.play(scenario), play(scenario, out=tmp_path)
    assert not there.result.quarantined
    assert weights(there) == weights(here)
    assert there.result.defenders == here.result.defenders
