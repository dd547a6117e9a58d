"""Spectral scores of one class: `eigh` of the Gram matrix against singular value decompositions."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np
import torch

from strategies.filtering.spectral_signatures import spectral_scores


def ours(features: np.ndarray) -> np.ndarray:
    return spectral_scores(features, np.zeros(len(features), np.int64))


def torch_svd(features: np.ndarray) -> np.ndarray:
    centred = torch.from_numpy(features.astype(np.float64))
    centred -= centred.mean(0)
    top = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return ((centred @ top) ** 2).numpy()


def numpy_svd(features: np.ndarray) -> np.ndarray:
    centred = features.astype(np.float64)
    centred -= centred.mean(0)
    top = np.linalg.svd(centred, full_matrices=False)[2][0]
    return (centred @ top) ** 2


def art(features: np.ndarray) -> np.ndarray:
    """ART's score on centred features is the root of the paper's."""
    from art.defences.detector.poison import SpectralSignatureDefense

    centred = features.astype(np.float64)
    centred -= centred.mean(0)
    return np.ravel(SpectralSignatureDefense.spectral_signature_scores(centred)) ** 2


def example(rows: int, width: int) -> np.ndarray:
    """Return features with one strong direction that a tenth of the rows lacks, float32."""
    draws = np.random.default_rng(0)
    features = draws.standard_normal((rows, width), dtype=np.float32)
    np.abs(features, out=features)  # in place: the peak of memory is that of the methods
    features /= 2
    features[rows // 10 :, 0] += 6
    return features


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "eigh of Gram (ours)": ours,
    "torch svd": torch_svd,
    "numpy svd": numpy_svd,
    "ART": art,
}


def cost(name: str, rows: int, width: int) -> tuple[np.ndarray, float, float]:
    """Return the scores, the CPU seconds of the better of two and the memory taken, in MiB."""
    score = METHODS[name]
    score(example(20, 4))  # imports and first calls do not count
    features, seconds = example(rows, width), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        start = time.process_time()
        scores = score(features)
        seconds.append(time.process_time() - start)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return scores, min(seconds), taken / 1024


def run(quick: bool) -> dict:
    sizes = [(5000, 512)] if quick else [(5000, 512), (50_000, 512), (400, 2048)]
    fresh, rows = get_context("spawn"), []
    for count, width in sizes:
        wanted = unit = None
        for name in METHODS:
            with fresh.Pool(1) as process:  # the peak of memory is that of one method
                scores, seconds, taken = process.apply(cost, (name, count, width))
            if wanted is None or unit is None:
                wanted, unit = scores, seconds
            rows.append(
                {
                    "rows": count,
                    "features": width,
                    "method": name,
                    "CPU s": seconds,
                    "times ours": seconds / unit,
                    "MiB": taken,
                    "largest difference": float(np.abs(scores - wanted).max() / wanted.max()),
                }
            )
    note = "All on centred float64 features and the same threads; differences relative to the top."
    return {"name": "spectral signatures of one class", "rows": rows, "note": note}
