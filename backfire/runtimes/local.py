"""The in-process runtime: no Ray, no sockets; agents are played one after the other.

No process isolation: an agent that kills its process kills the game. Use it for behaviours that
you wrote yourself, and real machines for everybody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from backfire.runtimes.flower.private import (
    NodeInfo,
    Run,
    copied,
    identity,
    stamp_message_id,
)
from learning.messages import UPDATE

Cohort = Callable[[Sequence[Message], Sequence[Context]], list[Message]]

TRAIN_UPDATE = f"train.{UPDATE}"
_RUN_ID = 1
_FIRST_NODE = 2
_AGENT_RAISED = 2  # Flower's error code for a ClientApp that raised


class LocalGrid(Grid):
    """A Flower `Grid` whose nodes live in this process.

    Args:
        client: The agents' app.
        names: Agents; agent k is node k + 2 and has ``partition-id`` k.
        run_config: The run's settings, given to every node.
        cohort: Answers many ``train.update`` messages at once, with the same replies as `client`.
    """

    def __init__(
        self,
        client: ClientApp,
        names: Sequence[str],
        run_config: UserConfig,
        cohort: Cohort | None = None,
    ) -> None:
        self._client = client
        self._cohort = cohort
        self._run = Run.create_empty(_RUN_ID)
        self._sent: OrderedDict[str, Message] = OrderedDict()
        self._count = 0
        self._nodes = {_FIRST_NODE + k: name for k, name in enumerate(names)}
        self._contexts = {
            node: Context(
                run_id=_RUN_ID,
                node_id=node,
                node_config={"partition-id": k, "num-partitions": len(names)},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for k, node in enumerate(self._nodes)
        }

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message; prefer the constructor of `Message`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return all nodes under their agents' names."""
        return [NodeInfo(node_id=node, name=name) for node, name in self._nodes.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; each is answered when its reply is pulled."""
        ids = []
        for message in messages:
            self._count += 1
            message_id = f"m{self._count}"
            stamp_message_id(message, message_id)
            self._sent[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Play the agents that these messages went to, one reply at a time."""
        taken = [self._sent.pop(i) for i in list(message_ids) if i in self._sent]
        together, alone = [], taken
        if self._cohort is not None:
            together = [m for m in taken if m.metadata.message_type == TRAIN_UPDATE]
            alone = [m for m in taken if m.metadata.message_type != TRAIN_UPDATE]
        yield from self._answer_together(together)
        for message in alone:
            yield self._answer(message)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return all replies; there is nothing to wait for."""
        return list(self.pull_messages(self.push_messages(messages)))

    def _answer_together(self, messages: Sequence[Message]) -> Iterable[Message]:
        """Train a cohort as one; where that fails, each alone, so that one harms no other."""
        if not messages or self._cohort is None:
            return
        contexts = [self._contexts[m.metadata.dst_node_id] for m in messages]
        try:
            # The cohort reads its messages and hands none of their records to an agent.
            replies = self._cohort(messages, contexts)
        except Exception:
            replies = [self._answer(message) for message in messages]
        yield from replies

    def _answer(self, message: Message) -> Message:
        # An agent that changes its input must not change another's.
        own = copied(message)
        try:
            return self._client(own, self._contexts[message.metadata.dst_node_id])
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(_AGENT_RAISED, reason), reply_to=message)


def run_local(
    server: ServerApp,
    client: ClientApp,
    names: Sequence[str],
    wrap: Callable[[Grid], Grid] = lambda grid: grid,
    cohort: Cohort | None = None,
) -> None:
    """Play a game in this process.

    Args:
        server: The defender's app.
        client: The agents' app.
        names: Agents in scenario order.
        wrap: Puts something between server and agents; tests inject faults here.
        cohort: See `LocalGrid`.
    """
    with identity(_RUN_ID):
        context = Context(
            run_id=_RUN_ID, node_id=0, node_config={}, state=RecordDict(), run_config={}
        )
        server(wrap(LocalGrid(client, names, {}, cohort)), context)
