"""Influence: rows whose weight in the training, if raised, would most harm the defender's own rows.

Koh, Liang, Understanding Black-box Predictions via Influence Functions, ICML 2017. With w the
trained weights, H the Hessian of the mean training loss and V the defender's validation rows

    I(z) = - (mean of grad L(v, w) over v in V) . (H + damping)^-1 grad L(z, w)       (eq. 2)

is the rate at which the mean loss on V changes as row z is given more weight; taking z out of n
rows changes it by about -I(z) / n. S3 5.6 (Table 11) removes "3% of training points with
the highest influence". V are rows of the defender's here: a part of them is kept out of this
filter's own training. ``judge: self`` is section 5.4 of Koh and Liang instead, which needs no
trusted rows: the influence of a row on its own loss, by size.

The Hessian is that of the plain mean cross-entropy; weight decay is not told to a defence, and
goes into `damping`. Away from a minimum it has negative eigenvalues, and then H + damping has no
inverse that conjugate gradients could find: what they end with is worse than none. Of all layers
the default is therefore the Gauss-Newton matrix, which has none. Whatever the matrix, nothing is
removed by a solution that leaves more than a tenth of the right-hand side. Basu, Pope, Feizi (ICLR
2021) show how fragile the estimate is for deep networks; the residual is in the notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from learning.curvature.last_layer import GIB, LastLayer, factorised, last_layer_product
from learning.curvature.per_row import Measured, RowGradients
from learning.curvature.products import Product, all_layers_product
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.pool import DEFENDER, Bools, Pool
from learning.shares import count_of
from learning.training.job import Trained, Training, TrainingRequests
from strategies.base import Defender, Verdict
from strategies.checks import refuse_unused
from strategies.filtering.parts.gradients import all_layers, last_layer
from strategies.filtering.parts.losses import part
from strategies.filtering.parts.principal import Doubles
from strategies.filtering.parts.ranked import UNTRAINED, RankedFilter, unjudged, untrained
from strategies.filtering.parts.row_draws import RowDraws

if TYPE_CHECKING:
    from torch import Tensor

_LOOSE = 1e-3  # a residual above this is reported
# and one above this leads to no removal: on perceptrons, scores were then a third off and more
_USELESS = 0.1


@dataclass(frozen=True, eq=False)
class _Found:
    """What came of a solution.

    Attributes:
        scores: The influences divided by ``exp(unit)``, float64 (n,).
        unit: A logarithm; the influences of a model that is sure of all its labels are tiny.
        notes: For the report.
        refused: Why nothing may be removed by it; "" where it may.
    """

    scores: Doubles
    unit: float
    notes: tuple[str, ...] = ()
    refused: str = ""


class Influence(RankedFilter):
    """Removes the rows of highest influence, those that do harm only.

    Rows that are kept out for validation are scored too, as if they were trained on, and stay.
    """

    kind: Literal["influence"] = "influence"
    paper: ClassVar[str] = "Koh, Liang, Influence Functions, ICML 2017, eq. 2 and 5.4; S3 5.6"

    judge: Literal["validation", "self"] = Field(
        "validation",
        description="Influence on the defender's own rows, or of each row on its own loss.",
        json_schema_extra={"origin": "deduced"},
    )
    held_out: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the defender's rows that is kept out of this filter's training and "
        "judges the others (halves up; at least one row). Read with judge: validation.",
        json_schema_extra={"origin": "ours"},
    )
    damping: float = Field(
        0.01,
        gt=0,
        le=1e6,
        description="Added to the eigenvalues of the Hessian.",
        json_schema_extra={"origin": "code"},
    )
    layers: Literal["last", "all"] = Field(
        "last",
        description="Weights that may move: the last linear layer's, in closed form, or all.",
        json_schema_extra={"origin": "ours"},
    )
    curvature: Literal["hessian", "gauss_newton"] = Field(
        "gauss_newton",
        description="`gauss_newton` leaves out the part of the Hessian that may be negative; they "
        "are the same in the last layer. With `hessian`, the paper's, nothing is removed where a "
        "negative eigenvalue is met: raise damping above its size. Read with layers: all.",
        json_schema_extra={"origin": "ours"},
    )
    iterations: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Steps of conjugate gradients at most.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_unused(self) -> Influence:
        refuse_unused(self, "judge", {"validation": ("held_out",)})
        refuse_unused(self, "layers", {"all": ("curvature",)})
        if self.judge == "self" and self.layers == "all":
            raise ValueError("judge: self needs one solution for each row: set layers: last")
        return self

    @property
    def needs_own_rows(self) -> bool:
        """They judge the others, unless rows judge themselves."""
        return self.judge == "validation"

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool`.

        Raises:
            ValueError: If the defender has no rows to judge by, or all rows would be kept out; if
                the influence of rows on themselves needs more memory than `compute.memory_gib`.
        """
        held = self._held_out(pool, defender)
        (model,) = yield [Training(part(pool, ~held))]
        if untrained(model):
            return unjudged(pool, UNTRAINED)
        if self.layers == "last":
            near = last_layer(model, pool.x, pool.y, defender)
            if not bool(near.features.isfinite().all() & near.logs.isfinite().all()):
                return unjudged(pool, "the features or logits are not finite (training diverged)")
            found = self._by_last_layer(near, held, defender)
        else:
            found = self._by_all_layers(model, pool, held, defender)
        if found.refused or not np.isfinite(found.scores).all():
            why = found.refused or "the influences are not finite (training diverged)"
            return unjudged(pool, why)
        own = found.scores * np.exp(found.unit)
        eligible = ~held & (found.scores > 0)
        return self._verdict(found.scores, eligible, pool, defender, list(found.notes), own)

    def _held_out(self, pool: Pool, defender: Defender) -> Bools:
        if self.judge == "self":
            return np.zeros(len(pool), np.bool_)
        at = pool.owners.index(DEFENDER) if DEFENDER in pool.owners else -1
        own = pool.owner_index == at
        count = max(1, count_of(self.held_out, int(own.sum())))
        if not own.any() or count >= len(pool):
            raise ValueError(
                "influence: expected rows of the defender's in the pool, and others, got "
                f"{int(own.sum())} of {len(pool)}; set defender_share above 0, or judge: self"
            )
        return RowDraws(pool, defender).sample("influence", own, count)

    def _by_last_layer(self, gradients: LastLayer, held: Bools, defender: Defender) -> _Found:
        trained = gradients.take(np.flatnonzero(~held))
        factor = factorised(trained, self.damping, defender.memory_gib)
        rows = gradients.in_units()
        if self.judge == "self":
            return _Found(self._on_themselves(rows, factor, defender), 2 * rows.unit)
        judges = gradients.take(np.flatnonzero(held)).in_units()
        if factor is None:
            return self._iterate(last_layer_product(trained), judges, rows)
        solved = torch.cholesky_solve(_mean_gradient(judges)[:, None], factor)[:, 0]
        return _Found(_numbers(-rows.times(solved)), rows.unit + judges.unit)

    def _on_themselves(
        self, gradients: LastLayer, factor: Tensor | None, defender: Defender
    ) -> Doubles:
        """Return ``g . (H + damping)^-1 g`` of each row."""
        if factor is None:
            raise ValueError(
                "influence: judge: self factorises the Hessian of the last layer, too large here: "
                "raise compute.memory_gib, choose a narrower model, or judge: validation"
            )
        rows = max(1, int(defender.memory_gib * GIB / 8 / (8 * gradients.width)))
        out = torch.empty_like(gradients.features[:, 0])
        for first in range(0, gradients.rows, rows):
            some = slice(first, first + rows)
            errors, features = gradients.errors[some], gradients.features[some]
            each = (errors[:, :, None] * features[:, None]).flatten(1)
            half = torch.linalg.solve_triangular(factor, each.T, upper=False)
            out[some] = half.square().sum(0)
        return _numbers(out)

    def _by_all_layers(self, model: Trained, pool: Pool, held: Bools, defender: Defender) -> _Found:
        gradients = all_layers(model, pool.x, pool.y, defender)
        judges = gradients.take(np.flatnonzero(held)).in_units()
        product = all_layers_product(gradients.take(np.flatnonzero(~held)), self.curvature)
        return self._iterate(product, judges, gradients.in_units())

    def _iterate(self, product: Product, judges: Measured, rows: Measured) -> _Found:
        wanted = _mean_gradient(judges)
        tolerance = 1e-10 if wanted.dtype == torch.float64 else 1e-5
        found = conjugate_gradients(product, self.damping, wanted, tolerance, self.iterations)
        how = (
            f"inverse Hessian: relative residual {found.residual:.1e} after {found.steps} steps "
            "of conjugate gradients"
        )
        refused = ""
        if found.negative:
            refused = f"the Hessian has negative eigenvalues ({how}; set curvature: gauss_newton)"
        elif found.residual > _USELESS:
            refused = f"{how} (raise iterations or damping)"
        told = self.layers == "all" or found.residual > _LOOSE
        scores = _numbers(-rows.times(found.vector))
        return _Found(scores, rows.unit + judges.unit, (how,) if told else (), refused)


def _mean_gradient(gradients: RowGradients) -> Tensor:
    each = torch.full(
        (gradients.rows,), 1 / gradients.rows, device=gradients.device, dtype=gradients.dtype
    )
    return gradients.transposed(each)


def _numbers(values: Tensor) -> Doubles:
    return np.asarray(values.double().cpu().numpy(), np.float64)
