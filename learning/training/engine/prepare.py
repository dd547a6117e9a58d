"""A group of trainings, made ready: rows uploaded, models stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from learning.training.batches.batches import BatchMaker
from learning.training.batches.order import validation_mask
from learning.training.batches.plans import Member
from learning.training.batches.rows import RowStore
from learning.training.constraint import StackedSteering, changes
from learning.training.engine.grouping import width_of
from learning.training.engine.memory import keep_freed_memory
from learning.training.job import Training
from learning.training.length import Length
from learning.training.recipe import Recipe
from learning.training.stacked.modules import Template, fresh_module, has_batchnorm
from learning.training.stacked.nets import Net, PlainNet, StackedNet, State
from learning.training.stacked.stack import StackedForward, stacked_forward


@dataclass(frozen=True, eq=False)
class Group:
    """Trainings that run together.

    Attributes:
        net: Their models, in descending order of their number of rows.
        maker: Makes their batches.
        members: In the order of the net's models.
        order: For each of these, the position of its request.
        length: Of each training.
        rate: Factor of the learning rate.
        steering: Of the net's models, if they are steered.
    """

    net: Net
    maker: BatchMaker
    members: list[Member]
    order: list[int]
    length: Length
    rate: float
    steering: StackedSteering | None


class Preparation:
    """Makes groups ready.

    Args:
        recipe: How models are trained.
        store: Takes the rows.
        template: The untrained model.
        device: Where models are trained.
        dtype: Floating type of their weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: RowStore,
        template: Template,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._recipe, self._store, self._template = recipe, store, template
        self._device, self._dtype = device, dtype
        self._normed = has_batchnorm(template.module)

    def group(self, requests: Sequence[Training]) -> Group:
        """Upload rows and make the models; draws from torch's global generator, so not threaded.

        Raises:
            ValueError: If a training has too few rows.
        """
        members = [self._member(request) for request in requests]
        order = sorted(range(len(members)), key=lambda k: -len(members[k].rows))
        ordered = [requests[k] for k in order]
        net = self._net(ordered)
        return Group(
            net,
            self._maker(requests[0]),
            [members[k] for k in order],
            order,
            self._recipe.length(requests[0]),
            requests[0].rate,
            _steering(ordered, net),
        )

    def _maker(self, request: Training) -> BatchMaker:
        recipe = self._recipe
        return BatchMaker(
            self._store,
            recipe.seed,
            recipe.classes,
            recipe.training.batch_size,
            recipe.training.augment,
            request.hooks,
            width=width_of(request, recipe),
            join_single=not recipe.architecture.batchable,
        )

    def _member(self, request: Training) -> Member:
        rows = self._store.add(request.pool)
        spec = self._recipe.training
        held = validation_mask(self._recipe.seed, spec.validation_share, rows.ids)
        kept = rows.take(~held)
        if self._normed and min(len(kept), spec.batch_size) < 2:
            raise ValueError(
                f"BatchNorm needs batches of at least 2 rows, got {len(kept)} rows to train on and "
                f"training.batch_size {spec.batch_size}"
            )
        return Member(kept, rows.take(held), request.purpose)

    def _net(self, requests: Sequence[Training]) -> Net:
        compute = self._recipe.compute
        # Agents of a round share one start, whose `state_dict` is slow to make.
        starts = {id(request.start): request for request in requests}
        made = {key: self._start(request) for key, request in starts.items()}
        states = [made[id(request.start)] for request in requests]
        if self._recipe.stacks:
            keep_freed_memory()
            return StackedNet(states, self._stacked_forward)
        module = fresh_module(self._recipe, self._device, self._dtype)
        module.load_state_dict(states[0])
        return PlainNet(module, channels_last=compute.channels_last, compiled=compute.compile)

    @cached_property
    def _stacked_forward(self) -> StackedForward:
        forward = stacked_forward(self._template.module)
        return torch.compile(forward) if self._recipe.compute.compile else forward

    def _start(self, request: Training) -> State:
        if request.start is None:
            return self._template.state
        return request.start.module.state_dict()


def _steering(requests: Sequence[Training], net: Net) -> StackedSteering | None:
    if not changes(requests[0].steering):
        return None
    steerings = [r.steering for r in requests if r.steering is not None]
    return StackedSteering(steerings, net.weights(len(requests)))
