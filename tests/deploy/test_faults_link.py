"""The SuperLink is killed and comes back on its database: T4."""

import random
import signal
import threading
import time

import pytest

from backfire.playing import PlayError, play, resume
from backfire.runtimes.flower import server_api as flower_link
from live_deployments import Live, game, missed, weights

# The SuperLink gives up a run, and takes agents for gone, a minute after it last heard of them.
GIVEN_UP_AFTER = 65.0


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    live = Live(tmp_path_factory.mktemp("live"))
    live.start("alice", "bob", "mallory")
    yield live
    live.close()


class Outage:
    """Kills the SuperLink after a round, and brings it up again some time later."""

    def __init__(self, live, after, seconds):
        self._live, self._after, self._seconds = live, after, seconds
        self._thread = threading.Thread(target=self._back)

    def __call__(self, event):
        if event.phase == "round" and event.done == self._after:
            self._live.kill_link()
            self._thread.start()

    def _back(self):
        time.sleep(self._seconds)
        self._live.up()


def connected(live):
    return {name: agent.count("is connected to") for name, agent in live.agents.items()}


def test_t4_a_game_goes_on_when_its_killed_superlink_is_up_again(live, tmp_path):
    before = connected(live)
    scenario = game(4)
    played = live.play(scenario, Outage(live, 2, 3.0))
    assert missed(played) == {}
    assert weights(played) == weights(play(scenario, out=tmp_path))
    assert all(connected(live)[name] > before[name] for name in before)


@pytest.mark.deploy
def test_t4_a_game_whose_run_was_given_up_goes_on_in_another(live, tmp_path):
    """Longer than the deadline, too: the agents are given the time back."""
    scenario = game(4, deadline=20.0)
    played = live.play(scenario, Outage(live, 2, GIVEN_UP_AFTER))
    assert missed(played) == {}
    assert weights(played) == weights(play(scenario, out=tmp_path))


@pytest.mark.deploy
def test_t4_killed_at_any_moment_the_game_ends_and_nothing_is_counted_twice(live, tmp_path):
    """Four kills at seeded moments, whatever is on its way then.

    A SuperLink that is killed after it has noted that a request was handed out, and before the
    agent has it, never hands it out again: that agent is missing in that round, and no other.
    """
    scenario, draw, over = game(30), random.Random(4), threading.Event()  # noqa: S311
    kills = []

    def strike():
        try:
            while len(kills) < 4 and not over.wait(draw.uniform(1.0, 4.0)):
                kills.append(live.kill_link())
                live.up()
        except BaseException as error:
            kills.append(error)
            raise

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        played = live.play(scenario)
    finally:
        over.set()
        striker.join()
    assert len(set(kills)) >= 3
    lost = sum(map(len, missed(played).values()))
    assert lost <= len(kills)
    assert len(played.result.rounds["mean"]) == 30
    alike = weights(played) == weights(play(scenario, out=tmp_path))
    assert alike == (lost == 0)


@pytest.mark.deploy
def test_t4_a_superlink_that_stays_away_leaves_a_run_to_resume(live, tmp_path, monkeypatch):
    monkeypatch.setattr(flower_link, "PATIENCE", 4.0)
    scenario = game(3, seed=5)

    def kill(event):
        if event.phase == "round" and event.done == 2:
            live.kill_link()

    with pytest.raises(PlayError, match=r"does not answer.*backfire deploy up.*backfire resume"):
        live.play(scenario, kill)
    (folder,) = (f for f in live.out.iterdir() if not (f / "result.json").exists())
    live.agents["mallory"].signal(signal.SIGTERM)  # while it looks for the SuperLink
    assert live.agents["mallory"].wait() == 0
    waiting = live.launch("mallory")  # and one that is started before the SuperLink is up
    waiting.says("nobody listens.*still trying")
    live.up()
    waiting.says("is connected to")
    played = resume(folder, connection=live.folder)
    assert missed(played) == {}
    assert weights(played) == weights(play(scenario, out=tmp_path))
