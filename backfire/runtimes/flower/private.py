"""The private names of Flower that the local runtime cannot avoid, all in this one file.

Checked against flwr 1.39. A new Flower is a change of this file and of `flower_link`, which holds
those of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1

__all__ = [
    "SERVER_NODE",
    "NodeInfo",
    "Run",
    "copied",
    "identity",
    "stamp_message_id",
    "stamp_reply_to",
]


@contextmanager
def identity(run_id: int, task_id: int = 1, node_id: int = SERVER_NODE) -> Iterator[None]:
    """Let this process create messages as the server of a run; undone afterwards."""
    # The names' getters raise while they are unset, so the raw attributes are saved.
    names = ("_task_id", "_run_id", "_node_id")
    before = [TaskIdentity.__dict__[name] for name in names]
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task_id, run_id, node_id
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(TaskIdentity, name, value)


def stamp_message_id(message: Message, message_id: str) -> None:
    """Give an outgoing message its id, as the SuperLink would."""
    message.metadata.__dict__["_message_id"] = message_id


def stamp_reply_to(message: Message, message_id: str) -> None:
    """Let a reply answer another request than it says."""
    message.metadata.__dict__["_reply_to_message_id"] = message_id


def copied(message: Message) -> Message:
    """Return the message with records of its own; the bytes of its arrays are shared.

    Array data are immutable bytes, so that only the containers need to be copied.
    """
    content = RecordDict({name: copy.deepcopy(record) for name, record in message.content.items()})
    return Message(content, metadata=copy.copy(message.metadata))  # type: ignore[call-overload,no-any-return]
