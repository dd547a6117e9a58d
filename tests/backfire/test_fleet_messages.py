"""An agent's messages, piece by piece: what a killed server left unsent holds nothing else up."""

import time

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.supercore.run import RunNotRunningException

from backfire.runtimes.flower import client_api as flower_fleet
from backfire.runtimes.flower.client_api import Fleet, Session
from backfire.runtimes.flower.private import identity, stamp_message_id

MOST = 2**20


class Link:
    """A SuperLink's end of an agent's connection; pieces of some runs never come."""

    def __init__(self):
        self.waiting, self.pieces, self.unsent, self.over, self.asked = [], {}, set(), set(), 0

    def send(self, run_id, text, ttl=60.0):
        with identity(run_id):
            message = Message(
                RecordDict({"ask": ConfigRecord({"text": text})}), 7, "query", ttl=ttl
            )
        stamp_message_id(message, message.object_id)
        parts = get_all_nested_objects(message).items()
        self.pieces |= {(run_id, name): part.deflate() for name, part in parts}
        self.waiting.append((message, get_object_tree(message)))

    def fleet(self, session=None):
        calls = (7, self.receive, None, None, None, self.pull, None, lambda *told: None)
        return Fleet(calls, session or Session())

    def receive(self):
        return self.waiting.pop(0) if self.waiting else None

    def pull(self, run_id, name):
        self.asked += 1
        if run_id in self.over:
            raise RunNotRunningException
        if run_id in self.unsent:
            raise ObjectUnavailableError("not there")
        return self.pieces[run_id, name]


def text(message):
    return None if message is None else message.content.config_records["ask"]["text"]


def first(fleet, pulls=50):
    """Return the text of the next message that is whole."""
    for _ in range(pulls):
        if (message := fleet.pull(MOST)) is not None:
            return text(message)
    return None


def test_t3_a_message_whose_sender_was_killed_is_overtaken_by_the_next_games():
    link = Link()
    fleet = link.fleet()
    link.unsent = {1}
    link.send(1, "of the killed table")
    for number in range(3):
        link.send(2, f"of the next, {number}")
    assert [first(fleet) for _ in range(3)] == [f"of the next, {k}" for k in range(3)]
    link.over = {1}  # as the SuperLink says a minute later
    assert first(fleet) is None
    before = link.asked
    assert first(fleet) is None
    assert link.asked == before, "it still asks for pieces of a run that is over"


def test_a_message_that_was_overtaken_is_taken_when_its_pieces_come():
    link, session = Link(), Session()
    link.unsent = {1}
    link.send(1, "slow")
    link.send(2, "quick")
    assert first(link.fleet(session)) == "quick"
    link.unsent = set()
    assert first(link.fleet(session)) == "slow"  # over a new connection, too


def test_what_nobody_waits_for_any_longer_is_dropped():
    link = Link()
    fleet = link.fleet()
    link.unsent = {1}
    link.send(1, "late", ttl=0.3)
    link.send(2, "quick")
    assert first(fleet) == "quick"
    time.sleep(0.3)
    link.unsent = set()
    assert first(fleet, pulls=3) is None


def test_few_unfinished_messages_are_kept(monkeypatch):
    monkeypatch.setattr(flower_fleet, "_LOOK", 0.0)
    link, session = Link(), Session()
    link.unsent = set(range(1, 31))
    for run_id in link.unsent:
        link.send(run_id, "never whole")
    link.send(31, "whole")
    assert first(link.fleet(session)) == "whole"
    assert len(session.put_off) == 16
