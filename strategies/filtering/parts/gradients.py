"""The gradients of the losses of rows of a pool, in the forms that fit the defender's memory."""

from __future__ import annotations

import numpy as np

from learning.curvature.last_layer import GIB, LastLayer
from learning.curvature.per_row import RowGradients
from learning.curvature.streamed import Streamed
from learning.pool import Floats, Ints
from learning.training.engine.memory import output_sizes
from learning.training.job import Trained
from strategies.base import Defender

# Rows of a pass whose parts stay in a core's cache (measured: more are slower); a GPU takes as
# many as fit.
_CPU_ROWS = 256


def all_layers(model: Trained, x: Floats, y: Ints, defender: Defender) -> Streamed:
    """Return the gradients of rows by all weights; one pass takes a quarter of the memory."""
    outputs = sum(output_sizes(model.module, defender.shape))
    weights = sum(p.numel() for p in model.module.parameters())
    size = next(model.module.parameters()).element_size()
    # Outputs are kept, with their tangents and gradients; a row's own gradient is there twice.
    each = size * (4 * outputs + 2 * weights)
    chunk = int(defender.memory_gib * GIB / 4 // each)
    most = _CPU_ROWS if defender.device.type == "cpu" else defender.batch_size
    chunk = max(1, min(defender.batch_size, most, chunk))
    return Streamed(model.module, x, y, chunk)


def kept_if_small(gradients: Streamed, defender: Defender) -> RowGradients:
    """Return them in memory where they take at most half of what may be taken."""
    size = gradients.rows * gradients.width * gradients.dtype.itemsize
    return gradients.stored() if size <= defender.memory_gib * GIB / 2 else gradients


def last_layer(model: Trained, x: Floats, y: Ints, defender: Defender) -> LastLayer:
    """Return the gradients of rows by the last linear layer."""
    features, logits = defender.features(model, x), defender.logits(model, x)
    return LastLayer.of(features, logits, np.asarray(y), defender.device)
