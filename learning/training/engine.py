"""The training engine: what defences ask for is trained once, and together where that is faster."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from learning.models.base import Architecture
from learning.seeds import torch_generator
from learning.training.batches import BatchMaker, Member, padded_width
from learning.training.device import (
    exact_convolutions,
    layer_draws,
    one_thread,
    pick_device,
    threads,
    usable_cores,
)
from learning.training.job import Trained, Training
from learning.training.loop import Figures, Loop, Progress
from learning.training.memory import Footprint, keep_freed_memory
from learning.training.nets import Net, PlainNet, StackedNet, State
from learning.training.order import validation_mask
from learning.training.progress import CallProgress, EpochEvent
from learning.training.rows import RowStore
from learning.training.spec import ComputeSpec, TrainingSpec
from learning.training.stack import StackedForward, stacked_forward

__all__ = ["Engine", "EpochEvent", "Recipe", "pick_device"]


@dataclass(frozen=True)
class Recipe:
    """How a game's models are trained.

    Attributes:
        architecture: The model.
        shape: Input shape (C, H, W).
        classes: Number of classes.
        training: Training settings.
        compute: Where and how precisely.
        seed: The game's seed; gives the common initial weights and the batch orders.
    """

    architecture: Architecture
    shape: tuple[int, int, int]
    classes: int
    training: TrainingSpec
    compute: ComputeSpec
    seed: int


Key = tuple[object, ...]

# Sixteen small models fill a core's cache (measured: 8 and 32 are slower); a GPU takes more.
_CPU_STACK = 16
# Small batches leave a core waiting for Python, so more models share a step then.
_CPU_ROWS = 1024
_GPU_STACK = 256


class Engine:
    """Trains models for one game.

    All models start from the same weights and see their common rows in the same order, so two of
    them differ by their rows alone. A training that was done before is not done again.

    Args:
        recipe: How models are trained.
        on_epoch: Told of every finished epoch.
        dtype: Floating type of weights and inputs; float64 is for checks.

    Attributes:
        device: Where models are trained and stay.
        trainings: Number of models trained so far.

    Raises:
        ValueError: If the device is not there, the architecture does not fit the inputs, or early
            stopping watches validation rows that nobody held out.
    """

    def __init__(
        self,
        recipe: Recipe,
        on_epoch: Callable[[EpochEvent], None] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.recipe = recipe
        self.device = pick_device(recipe.compute.device)
        self.trainings = 0
        stopping = recipe.training.early_stopping
        watched = stopping is not None and stopping.monitor != "train_loss"
        if watched and recipe.training.validation_share == 0:
            raise ValueError("training.early_stopping.monitor needs validation_share above 0")
        self._dtype = dtype
        self._on_epoch = on_epoch or (lambda event: None)
        self._store = RowStore(recipe.shape, self.device, dtype)
        self._template = self._fresh_module()
        self._initial: State = self._template.state_dict()
        self._done: dict[Key, Trained] = {}
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
            ValueError: If a pool is empty or does not fit the recipe.
        """
        for request in requests:
            self._check(request)
        keys = [self._key(request) for request in requests]
        new = {k: r for k, r in zip(keys, requests, strict=True) if k not in self._done}
        progress = CallProgress(self._on_epoch, [self._length(r) for r in new.values()])
        groups = self._groups(new)
        # Hooks go through torchvision's transforms, which draw from torch's global generator.
        hooked = [group for group in groups if new[group[0]].hooks]
        plain = [group for group in groups if not new[group[0]].hooks]
        for some, workers in ((plain, self._cores()), (hooked, 1)):
            plays = (self._prepare([new[k] for k in group], progress) for group in some)
            for group, models in zip(some, self._play(plays, workers), strict=True):
                self._done.update(zip(group, models, strict=True))
                self.trainings += len(group)
        return [self._done[k] for k in keys]

    def holding(self, state: Mapping[str, Tensor]) -> Trained:
        """Return a model of the recipe with given weights, as a start for trainings.

        Raises:
            ValueError: If the state is not one of the recipe's architecture.
        """
        module = copy.deepcopy(self._template)
        try:
            module.load_state_dict(dict(state))
        except RuntimeError as error:
            raise ValueError(f"expected the weights of this model: {error}") from error
        return Trained(module.eval().requires_grad_(False), (), 0, 0, 0.0)

    def initial(self) -> Trained:
        """Return the untrained model that all trainings start from."""
        return self.holding(self._initial)

    def forget(self) -> None:
        """Drop the models trained so far; rows stay on the device."""
        self._done.clear()

    def _play(self, plays: Iterable[_Play], workers: int) -> Iterator[list[Trained]]:
        """Run groups, several at a time where each keeps one core busy.

        With one worker a group is prepared when the one before it is done, so that large models
        are not all in memory at once.
        """
        small = self.recipe.architecture.batchable and self.device.type == "cpu"
        with threads(1 if small else self.recipe.compute.threads), exact_convolutions():
            if workers < 2:
                yield from map(self._run, plays)
                return
            with ThreadPoolExecutor(workers, initializer=one_thread) as pool:
                yield from pool.map(self._run, list(plays))

    def _check(self, request: Training) -> None:
        pool = request.pool
        if not len(pool):
            raise ValueError("expected rows to train on, got an empty pool")
        if pool.classes != self.recipe.classes:
            raise ValueError(
                f"expected a pool of {self.recipe.classes} classes, got {pool.classes}"
            )
        for block in pool.blocks:
            if block.x.shape[1:] != self.recipe.shape:
                raise ValueError(
                    f"expected inputs of shape {self.recipe.shape}, got {block.x.shape[1:]} of "
                    f"{block.owner!r}"
                )

    def _key(self, request: Training) -> Key:
        hooks = tuple((type(hook), hook.model_dump_json()) for hook in request.hooks)
        start = request.start  # the key holds the object itself, so its identity stays its own
        return (self._store.key(request.pool), hooks, start, self._length(request), request.purpose)

    def _length(self, request: Training) -> int:
        return self.recipe.training.epochs if request.epochs is None else request.epochs

    def _groups(self, new: dict[Key, Training]) -> list[list[Key]]:
        """Return which trainings are run together; in the order of their first request."""
        alike: dict[object, list[Key]] = {}
        for key, request in new.items():
            kin = (key[1], self._length(request), self._width(request))
            alike.setdefault(kin, []).append(key)
        at_once = self._at_once()
        return [part for keys in alike.values() for part in _parts(keys, at_once, self._cores())]

    def _width(self, request: Training) -> int | None:
        if not self._stacks():
            return None
        return padded_width(len(request.pool), self.recipe.training.batch_size)

    def _cores(self) -> int:
        """Return how many groups run at a time."""
        if self.device.type != "cpu" or not self.recipe.architecture.batchable:
            return 1
        return self.recipe.compute.threads or usable_cores()

    def _stacks(self) -> bool:
        """Return whether models are trained as one, a single one included."""
        return self.recipe.architecture.batchable and self.recipe.compute.together is not False

    def _at_once(self) -> int:
        """Return how many models are trained as one."""
        architecture, compute = self.recipe.architecture, self.recipe.compute
        if not self._stacks():
            if not architecture.batchable and compute.together is not False:
                kind = getattr(architecture, "kind", type(architecture).__name__)
                normed = _has_batchnorm(self._template)
                why = "BatchNorm" if normed else "the architecture is not batchable"
                self._notes[f"{kind} models are trained one by one: {why}"] = None
            return 1
        footprint = Footprint.of(self._fresh_module(), self.recipe.shape, self.recipe.training)
        most = _GPU_STACK
        if self.device.type == "cpu":
            most = max(_CPU_STACK, _CPU_ROWS // self.recipe.training.batch_size)
        return min(most, footprint.fit(compute.memory_gib / self._cores(), self.device))

    def _prepare(self, requests: Sequence[Training], progress: CallProgress) -> _Play:
        """Upload rows and make the models; draws from torch's global generator, so not threaded."""
        recipe = self.recipe
        members = [self._member(request) for request in requests]
        order = sorted(range(len(members)), key=lambda k: -len(members[k].rows))
        maker = BatchMaker(
            self._store,
            recipe.seed,
            recipe.classes,
            recipe.training.batch_size,
            recipe.training.augment,
            requests[0].hooks,
            width=self._width(requests[0]),
            join_single=not recipe.architecture.batchable,
        )
        net = self._net([requests[k] for k in order])
        return _Play(
            net, maker, [members[k] for k in order], order, self._length(requests[0]), progress
        )

    def _run(self, play: _Play) -> list[Trained]:
        """Train one group; return its models in the order of the requests."""
        started = time.perf_counter()
        compute = self.recipe.compute
        loop = Loop(
            play.net,
            play.maker,
            self.recipe.training,
            play.epochs,
            self.device,
            bfloat16=compute.bfloat16,
        )
        if self.recipe.architecture.batchable:  # has no layers that draw
            finished = loop.run(play.members, play.tell)
        else:
            key = f"dropout/{play.members[0].purpose}"
            with layer_draws(torch_generator(self.recipe.seed, key), self.device):
                finished = loop.run(play.members, play.tell)
        seconds = (time.perf_counter() - started) / len(play.members)
        by_place = dict(zip(play.order, finished, strict=True))
        return [self._trained(by_place[k], seconds) for k in range(len(finished))]

    def _member(self, request: Training) -> Member:
        rows = self._store.add(request.pool)
        spec = self.recipe.training
        held = validation_mask(self.recipe.seed, spec.validation_share, rows.ids)
        kept = rows.take(~held)
        if _has_batchnorm(self._template) and min(len(kept), spec.batch_size) < 2:
            raise ValueError(
                f"BatchNorm needs batches of at least 2 rows, got {len(kept)} rows to train on and "
                f"training.batch_size {spec.batch_size}"
            )
        return Member(kept, rows.take(held), request.purpose)

    def _net(self, requests: Sequence[Training]) -> Net:
        compute = self.recipe.compute
        states = [self._start(request) for request in requests]
        if self._stacks():
            keep_freed_memory()
            return StackedNet(states, self._stacked_forward)
        module = self._fresh_module()
        module.load_state_dict(states[0])
        return PlainNet(module, channels_last=compute.channels_last, compiled=compute.compile)

    @cached_property
    def _stacked_forward(self) -> StackedForward:
        forward = stacked_forward(self._template)
        return torch.compile(forward) if self.recipe.compute.compile else forward

    def _start(self, request: Training) -> State:
        if request.start is None:
            return self._initial
        return request.start.module.state_dict()

    def _fresh_module(self) -> nn.Module:
        """Return the untrained model with the game's initial weights."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(torch_generator(recipe.seed, "init").get_state())
            module = recipe.architecture.build(recipe.shape, recipe.classes)
        return module.to(self.device, self._dtype)

    def _trained(self, progress: Progress, seconds: float) -> Trained:
        module = copy.deepcopy(self._template)
        module.load_state_dict(progress.state)
        epochs = len(progress.curve)
        if progress.diverged:
            self._notes[
                f"a training diverged in epoch {epochs + 1} (loss or weights not finite): the "
                "weights before that epoch are used; a smaller training.optimizer.lr may help"
            ] = None
        return Trained(
            module.eval().requires_grad_(False),
            tuple(progress.curve),
            len(progress.member.rows),
            epochs,
            seconds,
        )


@dataclass(frozen=True, eq=False)
class _Play:
    """A group that is ready to train; `members` and the net's models are in the same order."""

    net: Net
    maker: BatchMaker
    members: list[Member]
    order: list[int]
    epochs: int
    progress: CallProgress

    def tell(self, epoch: int, figures: list[Figures]) -> None:
        self.progress.tell(len(self.members), epoch, self.epochs, figures)


def _parts(keys: list[Key], most: int, cores: int) -> list[list[Key]]:
    """Cut into even groups: none above `most`, and work for each core where there is enough."""
    groups = max(-(-len(keys) // most), min(cores, len(keys) // 4))
    bounds = [len(keys) * i // groups for i in range(groups + 1)]
    return [keys[a:b] for a, b in pairwise(bounds)]


def _has_batchnorm(module: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
