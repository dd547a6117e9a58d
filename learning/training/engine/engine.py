"""The training engine: what defences ask for is trained once, and together where that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from learning.models.conformance import check_module
from learning.seeds import derived_seed, torch_generator
from learning.training.batches.rows import RowStore
from learning.training.device import (
    exact_convolutions,
    layer_draws,
    one_thread,
    pick_device,
    threads,
)
from learning.training.engine.cohorts import one_by_one
from learning.training.engine.grouping import Key, grouped, identity, most_at_once
from learning.training.engine.loop import EpochReport, Loop
from learning.training.engine.model_cache import ModelCache
from learning.training.engine.prepare import Group, Preparation
from learning.training.engine.requests import check_batchable, check_request, check_spec
from learning.training.job import Trained, Training
from learning.training.progress import CallProgress, EpochEvent
from learning.training.recipe import Recipe
from learning.training.stacked.modules import Template, fresh_module
from learning.training.stacked.nets import State

__all__ = ["Engine", "EpochEvent", "Recipe", "pick_device"]

T = TypeVar("T")


class Engine:
    """Trains models for one game.

    All models start from the same weights and see their common rows in the same order, so two of
    them differ by their rows alone. A training that was done before is not done again.

    Args:
        recipe: How models are trained.
        on_epoch: Told of every finished epoch.
        dtype: Floating type of weights and inputs; float64 is for checks.
        known: Models that other games have trained, taken over where that is exact: on a CPU.

    Attributes:
        device: Where models are trained and stay.
        trainings: Number of models trained so far, those taken over included.

    Raises:
        ValueError: If the device is not there, the architecture does not fit the inputs or says
            wrongly that it is batchable, or early stopping watches validation rows that nobody held
            out.
    """

    def __init__(
        self,
        recipe: Recipe,
        on_epoch: Callable[[EpochEvent], None] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        known: ModelCache | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = pick_device(recipe.compute.device)
        self._known = known if self.device.type == "cpu" else None
        self.trainings = 0
        check_spec(recipe.training)
        self._on_epoch = on_epoch or (lambda event: None)
        self._dtype = dtype
        self._store = RowStore(recipe.shape, self.device, dtype)
        self._template = Template(fresh_module(recipe, self.device, dtype))
        check_batchable(recipe.architecture, self._template.module)
        check_module(self._template.module, recipe.shape, recipe.classes)
        self._preparation = Preparation(recipe, self._store, self._template, self.device, dtype)
        self._done: dict[Key, Trained] = {}
        self._held: WeakValueDictionary[bytes, Trained] = WeakValueDictionary()
        self._starts: dict[int, Trained] = {}
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the report should know, one line each, without repetition."""
        return tuple(self._notes)

    def train(self, requests: Sequence[Training]) -> list[Trained]:
        """Train what is asked for.

        Args:
            requests: Trainings; equal ones, also of earlier calls, are done once.

        Returns:
            The models, in the order of the requests.

        Raises:
            ValueError: If a pool is empty or does not fit the recipe, or a request's length, rate
                or steering is out of its range.
        """
        if self._known is not None:
            self._take_over(requests, self._known)
        models = self._each(requests, self._done, self._trained)
        if self._known is not None:
            for request, model in zip(requests, models, strict=True):
                if _starts_anew(request):
                    self._known.put(self._wide_key(request), model)
        return models

    def _take_over(self, requests: Sequence[Training], known: ModelCache) -> None:
        for request in requests:
            check_request(request, self.recipe, self._width)
            key = identity(request, self.recipe, self._store)
            if key in self._done or not _starts_anew(request):
                continue
            model = known.get(self._wide_key(request))
            if model is not None:
                self._done[key] = model
                self.trainings += 1

    def _wide_key(self, request: Training) -> Key:
        """Return what a model's weights follow from, whatever the game."""
        recipe, compute = self.recipe, self.recipe.compute
        return (
            *identity(request, recipe, self._store),
            type(recipe.architecture),
            recipe.architecture.model_dump_json(),
            recipe.training.model_dump_json(),
            (recipe.shape, recipe.classes, recipe.seed, recipe.averaged, str(self._dtype)),
            (compute.bfloat16, compute.together, compute.threads, torch.get_num_threads()),
        )

    def states(self, requests: Sequence[Training]) -> list[State]:
        """Train what is asked for, and return only the weights and buffers, by name.

        Spares the modules, which cost more than the training of a small agent. Nothing is kept.

        Raises:
            ValueError: As `train` does.
        """
        return [state for state, _ in self.states_told(requests)]

    def states_told(self, requests: Sequence[Training]) -> list[tuple[State, int]]:
        """Return what `states` does, and for each the epoch in which it diverged; 0 if it did not.

        Raises:
            ValueError: As `train` does.
        """
        return self._each(requests, {}, lambda progress, *_: (progress.state, _diverged(progress)))

    def _each(
        self,
        requests: Sequence[Training],
        done: dict[Key, T],
        made: Callable[[EpochReport, Group, float], T],
    ) -> list[T]:
        """Return what is made of each request's training; what is done already is not done again.

        Args:
            requests: Trainings.
            done: What was made before; added to.
            made: Makes it of a model's training, its group and its share of the seconds.
        """
        for request in requests:
            check_request(request, self.recipe, self._width)
        keys = [identity(request, self.recipe, self._store) for request in requests]
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in done}
        spans = [self.recipe.length(request).spans for request in new.values()]
        progress = CallProgress(self._on_epoch, spans)
        groups = grouped(new, self.recipe, self._at_once, self._cores)
        alone = one_by_one(self.recipe.architecture, self.recipe.compute, self._template.module)
        if new and alone is not None:
            self._notes[alone] = None
        # Hooks go through torchvision's transforms, which draw from torch's global generator.
        hooked = [group for group in groups if new[group[0]].hooks]
        plain = [group for group in groups if not new[group[0]].hooks]
        for some, workers in ((plain, self._cores), (hooked, 1)):
            ready = (self._preparation.group([new[k] for k in group]) for group in some)
            for group, results in zip(
                some, self._play(ready, progress, workers, made), strict=True
            ):
                done.update(zip(group, results, strict=True))
                self.trainings += len(group)
        return [done[k] for k in keys]

    def holding(self, state: Mapping[str, Tensor]) -> Trained:
        """Return a model of the recipe with given weights, as a start for trainings.

        As long as somebody has it, it is returned again for equal weights: the agents of a round
        share their start, and trainings that are equal from then on are done once.

        Raises:
            ValueError: If the state is not one of the recipe's architecture.
        """
        digest = self._template.digest(state)
        held = self._held.get(digest)
        if held is None:
            held = Trained(self._template.holding(state), (), 0, 0, 0.0)
            self._held[digest] = held
        return held

    def initial(self, repeat: int = 0) -> Trained:
        """Return the untrained model that all trainings start from.

        Args:
            repeat: Of a game that is trained again the number of the repeat, from 1; each has
                initial weights of its own.
        """
        if repeat == 0:
            return self.holding(self._template.state)
        if repeat not in self._starts:
            seed = derived_seed(self.recipe.seed, f"repeat/{repeat}")
            other = fresh_module(replace(self.recipe, seed=seed), self.device, self._dtype)
            self._starts[repeat] = self.holding(other.state_dict())
        return self._starts[repeat]

    @property
    def untrained(self) -> nn.Module:
        """The untrained model as its architecture has built it; not to be changed.

        Unlike models that are held, it knows which of its parameters are frozen.
        """
        return self._template.module

    def forget(self) -> None:
        """Drop the models trained so far; rows stay on the device."""
        self._done.clear()

    @cached_property
    def _width(self) -> int:
        """Number of trained weights of a model."""
        return sum(p.numel() for p in self._template.module.parameters() if p.requires_grad)

    @cached_property
    def _at_once(self) -> Mapping[bool, int]:
        recipe, module = self.recipe, self._template.module
        return {s: most_at_once(recipe, module, self.device, steered=s) for s in (False, True)}

    @cached_property
    def _cores(self) -> int:
        return self.recipe.cores(self.device)

    def _play(
        self,
        groups: Iterable[Group],
        progress: CallProgress,
        workers: int,
        made: Callable[[EpochReport, Group, float], T],
    ) -> Iterator[list[T]]:
        """Run groups, several at a time where each keeps one core busy.

        With one worker a group is prepared when the one before it is done, so that large models
        are not all in memory at once.
        """
        small = self.recipe.architecture.batchable and self.device.type == "cpu"

        def run(group: Group) -> list[T]:
            finished, seconds = self._run(group, progress)
            return [made(one, group, seconds) for one in finished]

        with threads(1 if small else self.recipe.compute.threads), exact_convolutions():
            if workers < 2:
                yield from map(run, groups)
                return
            with ThreadPoolExecutor(workers, initializer=one_thread) as pool:
                yield from pool.map(run, list(groups))

    def _run(self, group: Group, progress: CallProgress) -> tuple[list[EpochReport], float]:
        """Train one group; return what became of each request, in order, and its seconds."""
        started = time.perf_counter()
        recipe, members, spans = self.recipe, group.members, group.length.spans
        loop = Loop(
            group.net,
            group.maker,
            recipe.training,
            group.length,
            self.device,
            rate=group.rate,
            steering=group.steering,
            bfloat16=recipe.compute.bfloat16,
            averaged=recipe.averaged,
        )

        def tell(span: int, figures: list[dict[str, float]]) -> None:
            progress.tell(len(members), span, spans, figures)

        if recipe.architecture.batchable:  # has no layers that draw
            finished = loop.run(members, tell)
        else:
            key = f"dropout/{members[0].purpose}"
            with layer_draws(torch_generator(recipe.seed, key), self.device):
                finished = loop.run(members, tell)
        seconds = (time.perf_counter() - started) / len(members)
        by_place = dict(zip(group.order, finished, strict=True))
        for one in finished:
            if one.diverged:
                self._note_divergence(len(one.curve), group.length.steps)
        return [by_place[k] for k in range(len(finished))], seconds

    def _trained(self, progress: EpochReport, group: Group, seconds: float) -> Trained:
        length, spans = group.length, len(progress.curve)
        return Trained(
            self._template.holding(progress.state),
            tuple(progress.curve),
            len(progress.member.rows),
            length.epochs_in(spans, group.maker.batches(progress.member)),
            seconds,
            progress.validated(self.recipe.training.early_stopping),
            _diverged(progress),
            self._template.holding(progress.averaged) if progress.averaged else None,
        )

    def _note_divergence(self, spans: int, steps: int | None) -> None:
        when, kept = f"in epoch {spans + 1}", "before that epoch"
        if steps is not None:
            when, kept = f"within {steps} steps", "that it started from"
        self._notes[
            f"a training diverged {when} (loss or weights not finite): the weights {kept} are "
            "used; a smaller training.optimizer.lr may help"
        ] = None


def _diverged(progress: EpochReport) -> int:
    return len(progress.curve) + 1 if progress.diverged else 0


def _starts_anew(request: Training) -> bool:
    """Return whether a training stands for itself, not on a model of its own game."""
    return request.start is None and request.steering is None
