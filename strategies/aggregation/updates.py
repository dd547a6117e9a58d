"""The updates of one round: a matrix that is read in chunks of columns and never copied whole.

Leaving agents out and mixing rows are kept as an index and a small matrix, and applied to each
chunk when it is read, so that a chain of steps on updates mapped from a file takes no more memory
than one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Columns of a chunk: 50 float32 rows of it fit a core's second-level cache two times over or so;
# each row of it is long enough to be read from a file at full speed.
CPU_COLUMNS = 2**14
DEVICE_COLUMNS = 2**20
# A rule holds a chunk in its own dtype, in float64 and as one temporary.
BYTES_PER_VALUE = 24


class NotFinite(ValueError):
    """Updates, or what was made of them, are not finite."""


@dataclass(frozen=True, eq=False)
class Updates:
    """What the admitted agents handed over in one round, ``w_i - w_global`` row by row.

    Attributes:
        matrix: Finite float32 or float64 (all, d), on any device, possibly mapped from a file
            (`numpy.memmap` with mode "c" or "r+", since torch warns of read-only memory). Nothing
            in this package writes to it.
        weights: Registered share of each row, float64 (n,) on the CPU, >= 0 and not all 0; never
            what an agent claims.
        agents: Name of each row, in scenario order; ties are broken in this order.
        round: Round of the game.
        taken: Which rows of `matrix` there are, int64 (count,); None for all.
        mixing: Makes the n rows of the `count` that are taken, float64 (n, count), from a
            pre-aggregation; None for the rows as they are.
        gram: `strategies.aggregation.parts.gram.gram` of the rows that are taken, if it is known.
    """

    matrix: Tensor
    weights: Tensor
    agents: tuple[str, ...]
    round: int = 1
    taken: Tensor | None = None
    mixing: Tensor | None = None
    gram: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ValueError: If there is no row, or shapes, dtypes or weights are not as documented.
        """
        if self.matrix.ndim != 2 or self.matrix.dtype not in (torch.float32, torch.float64):
            found = f"{self.matrix.dtype} {tuple(self.matrix.shape)}"
            raise ValueError(f"expected updates as a float32 or float64 matrix (n, d), got {found}")
        n = self.taken_count if self.mixing is None else len(self.mixing)
        if not n or len(self.agents) != n or self.weights.shape != (n,):
            raise ValueError(
                f"expected one agent and one weight for each of {n} rows, and a row, got "
                f"{len(self.agents)} agents and weights of shape {tuple(self.weights.shape)}"
            )
        if len(set(self.agents)) != n:
            raise ValueError("expected each agent once, got one twice")
        if not bool((self.weights >= 0).all()) or not 0 < float(self.weights.sum()) < float("inf"):
            raise ValueError("expected weights >= 0 that are not all 0")

    def __len__(self) -> int:
        return len(self.agents)

    @property
    def width(self) -> int:
        """Number of columns, d."""
        return self.matrix.shape[1]

    @property
    def taken_count(self) -> int:
        """Number of rows that are taken from the matrix, before any mixing."""
        return len(self.matrix) if self.taken is None else len(self.taken)

    @property
    def shares(self) -> Tensor:
        """The weights divided by their sum, float64 (n,) on the CPU."""
        weights = self.weights.to("cpu", torch.float64)
        return weights / weights.sum()

    def slices(self, memory: int) -> Iterator[slice]:
        """Cut the columns into chunks that rules can treat within `memory` bytes."""
        most = CPU_COLUMNS if self.matrix.device.type == "cpu" else DEVICE_COLUMNS
        rows = len(self) + self.taken_count
        wide = max(1, min(most, memory // (rows * BYTES_PER_VALUE)))
        for first in range(0, self.width, wide):
            yield slice(first, min(first + wide, self.width))

    def raw_chunks(
        self, memory: int, dtype: torch.dtype | None = None, more: int = 0
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield all columns of the rows that are taken, before any mixing; see `chunks`.

        Args:
            memory: Bytes that may be taken.
            dtype: Of the chunks; that of the matrix if None.
            more: Rows to add at the end of a chunk; what they hold is not defined.
        """
        buffer: Tensor | None = None
        for columns in self.slices(memory):
            wide, rows = columns.stop - columns.start, self.taken_count
            if buffer is None:
                buffer = self.matrix.new_empty(rows + more, wide, dtype=dtype)
            block = buffer[:, :wide]
            block[:rows] = self.matrix[self._rows, columns]
            yield columns, block

    def chunks(
        self, memory: int, dtype: torch.dtype | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield all columns, a chunk (n, width) at a time.

        A chunk may be overwritten; the next one takes its place, since memory that is new costs
        more than the copy.
        """
        if self.mixing is None:
            yield from self.raw_chunks(memory, dtype)
            return
        mixing = self.mixing.to(self.matrix.device)
        for columns, block in self.raw_chunks(memory, torch.float64):
            yield columns, (mixing @ block).to(dtype or self.matrix.dtype)

    def some(self, columns: Tensor) -> Tensor:
        """Return a copy of the columns at some positions, int64 (width,), as (n, width)."""
        rows = self._rows[:, None] if isinstance(self._rows, torch.Tensor) else self._rows
        block = self.matrix[rows, columns.to(self.matrix.device)]
        if self.mixing is None:
            return block
        return (self.mixing.to(block.device) @ block.double()).to(block.dtype)

    @property
    def _rows(self) -> Tensor | slice:
        return slice(None) if self.taken is None else self.taken

    def without(self, agents: Sequence[str]) -> Updates:
        """Return the updates without those of some agents; the matrix is shared.

        Raises:
            ValueError: If an agent has no row here, or no row would be left.
        """
        unknown = set(agents) - set(self.agents)
        if unknown:
            raise ValueError(f"expected agents with an update here, got {sorted(unknown)}")
        left = [at for at, name in enumerate(self.agents) if name not in set(agents)]
        keep = torch.tensor(left, dtype=torch.int64)
        names = tuple(self.agents[at] for at in left)
        fewer = {"weights": self.weights[keep], "agents": names}
        if self.mixing is not None:
            return replace(self, **fewer, mixing=self.mixing[keep])  # type: ignore[arg-type]
        taken = keep.to(self.matrix.device) if self.taken is None else self.taken[keep]
        points = torch.cat([keep, torch.tensor([self.taken_count])])
        gram = None if self.gram is None else self.gram[points][:, points]
        return replace(self, **fewer, taken=taken, gram=gram)  # type: ignore[arg-type]

    def mixed(
        self, mixing: Tensor, agents: tuple[str, ...] | None = None, weights: Tensor | None = None
    ) -> Updates:
        """Return rows that are sums of these.

        Args:
            mixing: float64 (m, n), entries >= 0 and no row's sum above 1.
            agents: Names of the m rows; as they are if None.
            weights: Of the m rows; as they are if None.
        """
        return replace(
            self,
            mixing=mixing if self.mixing is None else mixing @ self.mixing,
            agents=self.agents if agents is None else agents,
            weights=self.weights if weights is None else weights,
        )
