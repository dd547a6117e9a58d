"""Distances, norms and sums of updates, in float64 and a chunk of columns at a time.

A Gram matrix gives all distances in one matrix product, but ``|x|^2 + |y|^2 - 2 x.y`` loses every
digit where the rows are far from the origin and close to each other. So the rows are centred
first, in float64, chunk by chunk, on the row of median norm: fewer than half of the rows cannot
move that centre out of the range of the others, and a row (unlike a mean) is subtracted without
rounding, so that rows which tie do tie.

The origin is one more point of the Gram matrix. Clipped and mixed rows are sums of the points with
coefficients that add up to 1, and so their distances follow from it too, without the updates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from strategies.aggregation.updates import NotFinite, Updates

if TYPE_CHECKING:
    from torch import Tensor

Doubles = NDArray[np.float64]

# Of the points' squares: squared distances that differ by less are the same but for rounding.
ROUNDING = 1e-12
# Rows of a band of the Gram matrix: for many rows almost half of the products are left out, and
# bands that are thinner are slower.
BAND = 64


def gram(updates: Updates, memory: int, extra: Tensor | None = None) -> Tensor:
    """Return the inner products of the rows, the origin and extra points about a centre.

    Args:
        updates: n rows.
        memory: Bytes that may be taken.
        extra: More points, (k, d).

    Returns:
        float64 (n + 1 + k, n + 1 + k) on the CPU, symmetric.

    Raises:
        NotFinite: If a product is not finite: a row is not, or holds values above 1e150.
    """
    known = updates.gram
    if known is None or extra is not None:
        known = _centred_products(updates, memory, extra)
    return known if updates.mixing is None else _lifted(known, updates.mixing)


def _lifted(known: Tensor, mixing: Tensor) -> Tensor:
    lift = _lift(known, mixing)
    return lift @ known @ lift.T


def _lift(known: Tensor, mixing: Tensor) -> Tensor:
    """Return mixed rows as sums of the points: what they lack to a sum of 1, the origin has."""
    rows, taken = mixing.shape
    others = len(known) - taken
    lift = torch.zeros(rows + others, taken + others, dtype=torch.float64)
    lift[:rows, :taken] = mixing
    lift[:rows, taken] = 1 - mixing.sum(dim=1)
    lift[rows:, taken:] = torch.eye(others)
    return lift


def with_gram(updates: Updates, memory: int) -> Updates:
    """Return the same updates with their Gram matrix, for all that asks for it later.

    `Updates.without` keeps what is left of it: the aggregates without one agent or another cost
    one Gram matrix together.
    """
    if updates.gram is not None:
        return updates
    return replace(updates, gram=_centred_products(updates, memory, None))


def _centred_products(updates: Updates, memory: int, extra: Tensor | None) -> Tensor:
    rows = updates.taken_count
    size = rows + 1 + (0 if extra is None else len(extra))
    device = updates.matrix.device
    total = torch.zeros(size, size, dtype=torch.float64, device=device)
    for columns, points in updates.raw_chunks(memory, torch.float64, more=size - rows):
        points[rows] = 0
        if extra is not None:
            points[rows + 1 :] = extra[:, columns]
        points -= _row_of_median_norm(points[:rows])
        _add_products(total, points)
    return _symmetric(total, updates)


def _add_products(total: Tensor, points: Tensor) -> None:
    """Add the inner products of the points to the upper half of `total`, a band at a time."""
    for first in range(0, len(points), BAND):
        band = slice(first, first + BAND)
        total[band, first:].addmm_(points[band], points[first:].T)


def _symmetric(total: Tensor, updates: Updates) -> Tensor:
    if not bool(torch.isfinite(total).all()):
        raise NotFinite(
            f"distances between the updates of round {updates.round} are not finite: expected "
            "finite updates below 1e150, so admit only those"
        )
    return (total.triu() + total.triu(1).T).cpu()


def _row_of_median_norm(rows: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(rows, dim=1)
    return rows[int(norms.argsort(stable=True)[(len(rows) - 1) // 2])].clone()


def distances(updates: Updates, memory: int) -> Doubles:
    """Return the squared distances of the rows, float64 (n, n).

    Distances that differ by rounding alone are equal, so that rows which tie do tie, and copies are
    at distance 0 of each other.

    Raises:
        NotFinite: As `gram` does.
    """
    n, known = len(updates), updates.gram
    if known is None:
        known = _centred_products(updates, memory, None)
    products, squares = known, known.diagonal()
    if updates.mixing is not None:
        products = _lifted(known, updates.mixing)
        squares = _lift(known, updates.mixing) @ squares
    sizes = squares[:n].numpy()
    squared, rounding = squared_distances(products, n), ROUNDING * (sizes[:, None] + sizes)
    squared[squared <= rounding] = 0
    return levelled(squared, rounding)


def levelled(values: Doubles, rounding: Doubles) -> Doubles:
    """Return values of which neighbours in size that are no farther apart than rounding are equal.

    Two are equal only where neither can be told from the other: a value that is known well stays
    what it is beside one that is not, so that a huge update does not blur the others' distances.

    Args:
        values: Any shape; each becomes the least of those that it cannot be told from.
        rounding: By how much each may be off, in the same shape.
    """
    order = np.argsort(values, axis=None, kind="stable")
    ascending, reach = values.ravel()[order], rounding.ravel()[order]
    apart = np.diff(ascending) > np.minimum(reach[1:], reach[:-1])
    first = np.concatenate([[0], np.flatnonzero(apart) + 1])
    level = np.repeat(ascending[first], np.diff([*first, len(order)]))
    out = np.empty_like(ascending)
    out[order] = level
    return out.reshape(values.shape)


def squared_distances(gram: Tensor, rows: int) -> Doubles:
    """Return the squared distances of the first `rows` points of `gram`, float64 (rows, rows)."""
    products = gram[:rows, :rows].numpy()
    squares = products.diagonal()
    distances = np.maximum(squares[:, None] + squares - 2 * products, 0)
    np.fill_diagonal(distances, 0)
    return np.asarray(distances)


def about_origin(updates: Updates, memory: int) -> Tensor:
    """Return the inner products of the rows, float64 (n, n) on the CPU.

    Not by way of `gram`: about another centre, directions from the origin lose digits.
    """
    device = updates.matrix.device
    total = torch.zeros(len(updates), len(updates), dtype=torch.float64, device=device)
    for _, rows in updates.chunks(memory, torch.float64):
        _add_products(total, rows)
    return _symmetric(total, updates)


def norms(updates: Updates, memory: int) -> Tensor:
    """Return the Euclidean norm of each row, float64 (n,) on the CPU."""
    if updates.gram is not None and updates.mixing is not None:
        known = gram(updates, memory)
        return distances_to(torch.eye(len(known), dtype=torch.float64)[-1], known)[:-1]
    total = torch.zeros(len(updates), dtype=torch.float64, device=updates.matrix.device)
    for _, rows in updates.chunks(memory, torch.float64):
        total += rows.square_().sum(dim=1)
    return total.sqrt().cpu()


def combine(updates: Updates, coefficients: Tensor, memory: int) -> Tensor:
    """Return the sum of the rows, each times its coefficient.

    Args:
        updates: n rows.
        coefficients: float64 (n,); rows of coefficient 0 are not read.
        memory: Bytes that may be taken.

    Returns:
        (d,) in the dtype of the updates, summed in float64.
    """
    if updates.mixing is not None:
        coefficients = coefficients @ updates.mixing
    used = coefficients.nonzero()[:, 0]
    positions = used if updates.taken is None else updates.taken.cpu()[used]
    pairs = list(zip(positions.tolist(), coefficients[used].tolist(), strict=True))
    out = torch.zeros(updates.width, dtype=updates.matrix.dtype, device=updates.matrix.device)
    for columns in updates.slices(memory):
        total = torch.zeros_like(out[columns], dtype=torch.float64)
        for position, coefficient in pairs:
            total.add_(updates.matrix[position, columns].double(), alpha=coefficient)
        out[columns] = total
    return out


def distances_to(point: Tensor, gram: Tensor) -> Tensor:
    """Return the distance of every point of `gram`, (n, n), to a sum of them.

    Args:
        point: Coefficients of the sum, float64 (n,), which add up to 1.
        gram: float64 (n, n).
    """
    mixed = gram @ point
    return (gram.diagonal() - 2 * mixed + point @ mixed).clamp(min=0).sqrt()


def cosines(products: Tensor) -> Tensor:
    """Return the cosines of rows from their inner products, float64 (n, n).

    The cosine with a row of norm 0 is 0, also its own.
    """
    lengths = products.diagonal().sqrt()
    lengths = torch.where(lengths > 0, lengths, torch.inf)
    return (products / lengths / lengths[:, None]).clamp(-1, 1)


def products_with(vector: Tensor, updates: Updates, memory: int) -> Tensor:
    """Return the inner product of each row with `vector`, float64 (d,), as float64 (n,)."""
    total = torch.zeros(len(updates), dtype=torch.float64, device=updates.matrix.device)
    for columns, rows in updates.chunks(memory, torch.float64):
        total += rows @ vector[columns]
    return total.cpu()
