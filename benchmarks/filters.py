"""Per-row gradients in batches against a loop; Sever's scores against a full decomposition."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks._measure import alone, peak
from learning.curvature.last_layer import LastLayer, last_layer_product
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.streamed import Streamed
from learning.models.small_cnn import SmallCNN
from learning.training.job import Trained
from strategies.base import Defender
from strategies.filtering.parts.gradients import all_layers
from strategies.filtering.sever import gradient_scores

SHAPE, CLASSES = (3, 32, 32), 10


def example(rows: int) -> tuple[Streamed, Defender]:
    """Return the gradients of rows of CIFAR's size by all weights of a small CNN, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SmallCNN().build(SHAPE, CLASSES).eval().requires_grad_(False)
    draws = np.random.default_rng(0)
    x = draws.random((rows, *SHAPE), dtype=np.float32)
    knows = Defender(0, SHAPE, CLASSES, ("a",), 1)
    model = Trained(module, (), rows, 1, 0.0)
    return all_layers(model, x, draws.integers(0, CLASSES, rows), knows), knows


def by_loop(gradients: Streamed) -> torch.Tensor:
    """Return the gradients (n, P), one row after the other."""
    module, out = gradients.module.requires_grad_(True), []
    weights = list(module.parameters())
    for x, y in zip(torch.from_numpy(gradients.x), torch.from_numpy(gradients.y), strict=True):
        parts = torch.autograd.grad(F.cross_entropy(module(x[None]), y[None]), weights)
        out.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(out)


def cost(form: str, rows: int) -> tuple[np.ndarray, float, float]:
    """Return what some gradients amount to, CPU seconds (better of two) and MiB taken."""
    score(form, example(8)[0])  # first calls do not count
    gradients, _ = example(rows)
    before, seconds = peak(), []
    for _ in range(2):
        start = time.process_time()
        out = score(form, gradients)
        seconds.append(time.process_time() - start)
    return out, min(seconds), peak() - before


def score(form: str, gradients: Streamed) -> np.ndarray:
    """Return the norm of each row's gradient, or Sever's scores."""
    start = torch.ones(gradients.width)
    forms: dict[str, Callable[[], torch.Tensor | np.ndarray]] = {
        "gradients, batches (ours)": lambda: gradients.stored().matrix.norm(dim=1),
        "gradients, loop": lambda: by_loop(gradients).norm(dim=1),
        "Sever, kept (ours)": lambda: gradient_scores(gradients.stored(), start, 60)[0],
        "Sever, streamed (ours)": lambda: gradient_scores(gradients, start, 60)[0],
        "Sever, loop and SVD": lambda: by_svd(by_loop(gradients)),
    }
    return np.asarray(forms[form]())


def by_svd(matrix: torch.Tensor) -> torch.Tensor:
    """Return Sever's scores by a full singular value decomposition."""
    centred = (matrix - matrix.mean(0)).double()
    return (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).square()


def compared(forms: list[str], rows: int) -> list[dict[str, object]]:
    """Return a row for each form, beside the first."""
    found, out = {form: alone(cost, form, rows) for form in forms}, []
    wanted, unit, _ = found[forms[0]]
    for form, (values, seconds, mib) in found.items():
        apart = float(np.abs(values - wanted).max() / np.abs(wanted).max())
        what = {"rows": rows, "weights": 15_722, "what": form, "CPU s": seconds}
        out.append({**what, "times ours": seconds / unit, "MiB": mib, "largest difference": apart})
    return out


def last_layer(rows: int) -> tuple[list[float], float]:
    """Return CPU seconds of the last layer's parts, and the MiB that they took."""
    draws = np.random.default_rng(0)
    features = np.abs(draws.standard_normal((rows, 512), dtype=np.float32))
    logits = 2 * draws.standard_normal((rows, CLASSES), dtype=np.float32)
    before, labels = peak(), draws.integers(0, CLASSES, rows)
    gradients = LastLayer.of(features, logits, labels, torch.device("cpu"))
    wanted = gradients.transposed(torch.ones(rows, dtype=torch.float64)) / rows
    start = torch.ones(gradients.width, dtype=torch.float64)
    product, seconds = last_layer_product(gradients), []
    parts: list[Callable[[], object]] = [
        lambda: gradient_scores(gradients, start, 60),
        lambda: conjugate_gradients(product, 0.01, wanted, 1e-10, 100),
    ]
    for part in parts:
        begun = time.process_time()
        part()
        seconds.append(time.process_time() - begun)
    return seconds, peak() - before


def run(quick: bool) -> dict:
    """Measure."""
    rows = 300 if quick else 2000
    out = compared(["gradients, batches (ours)", "gradients, loop"], rows)
    forms = ["Sever, kept (ours)", "Sever, streamed (ours)", "Sever, loop and SVD"]
    out += compared(forms, rows)
    many = 5000 if quick else 50_000
    (sever, influence), mib = alone(last_layer, many)
    for what, seconds in (("Sever, last layer", sever), ("influence, last layer", influence)):
        entry = {"rows": many, "weights": 5130, "what": what, "CPU s": seconds, "MiB": mib}
        out.append({**entry, "times ours": 1.0})
    note = (
        "All layers: small_cnn on 3x32x32, float32; last layer: 512 features, 10 classes, float64. "
        "CPU seconds, better of two, each in a process of its own; MiB beyond the rows. Spectral "
        "scores against the SVD and ART are in `spectral`."
    )
    return {"name": "filters by per-row gradients", "rows": out, "note": note}
