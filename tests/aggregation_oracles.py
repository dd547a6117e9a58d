"""The rules again, as plain float64 loops that follow the papers line by line."""

import itertools
from fractions import Fraction

import numpy as np


def squared(rows):
    return np.array([[((a - b) ** 2).sum() for b in rows] for a in rows])


def mean(rows, shares):
    return sum(s * r for s, r in zip(shares, rows, strict=True)) / sum(shares)


def median(rows):
    return np.median(rows, axis=0)


def trimmed_mean(rows, f):
    return np.sort(rows, axis=0)[f : len(rows) - f].mean(axis=0)


def krum_scores(rows, f):
    n = len(rows)
    return [
        sum(sorted(((rows[i] - rows[j]) ** 2).sum() for j in range(n) if j != i)[: n - f - 2])
        for i in range(n)
    ]


def krum(rows, f):
    return rows[int(np.argmin(krum_scores(rows, f)))]


def multi_krum(rows, f, m=None):
    order = np.argsort(krum_scores(rows, f), kind="stable")
    return rows[order[: m or len(rows) - f]].mean(axis=0)


def mean_around_median(rows, keep):
    return np.array([float(mean_of_closest(values.tolist(), keep)) for values in rows.T])


def mean_of_closest(values, keep):
    """In fractions: of values that tie, each side fills half of the places, as far as it goes."""
    values = sorted(Fraction(value) for value in values)
    median = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    edge = sorted(abs(value - median) for value in values)[keep - 1]
    inside = [value for value in values if abs(value - median) < edge]
    below, above = values.count(median - edge), values.count(median + edge)
    places = keep - len(inside)
    if edge == 0:
        return (sum(inside) + places * median) / keep
    upper = min(max(Fraction(places, 2), places - below), above)
    return (sum(inside) + (places - upper) * (median - edge) + upper * (median + edge)) / keep


def bulyan(rows, f):
    left, picked = list(range(len(rows))), []
    while len(picked) < len(rows) - 2 * f:
        scores = []
        for i in left:
            apart = sorted(((rows[i] - rows[j]) ** 2).sum() for j in left if j != i)
            scores.append((sum(apart[: max(1, len(left) - f - 2)]), sum(apart)))
        picked.append(left.pop(scores.index(min(scores))))
    return mean_around_median(rows[sorted(picked)], len(rows) - 4 * f)


def mda(rows, f):
    """All subsets; of one diameter, the one of least spread."""
    apart = squared(rows)
    subsets = itertools.combinations(range(len(rows)), len(rows) - f)
    best = min(subsets, key=lambda s: (apart[np.ix_(s, s)].max(), apart[np.ix_(s, s)].sum()))
    return rows[list(best)].mean(axis=0)


def geometric_median(rows, shares, smoothing=1e-6, iterations=100):
    """From the mean, or from the update that is its own geometric median (Vardi and Zhang)."""
    z = mean(rows, shares)
    for row in rows:
        apart = np.linalg.norm(rows - row, axis=1)
        others = apart > 0
        pull = ((shares / np.maximum(apart, 1e-300))[:, None] * (row - rows))[others].sum(axis=0)
        if np.linalg.norm(pull) <= shares[~others].sum():
            z = row
            break
    for _ in range(iterations):
        betas = shares / np.maximum(smoothing, np.linalg.norm(rows - z, axis=1))
        z = mean(rows, betas)
    return z


def clip(row, bound):
    length = np.linalg.norm(row)
    return row * (bound / length) if length > bound else row


def centred_clipping(rows, centre=None, radius=None, iterations=1):
    centre = np.zeros(rows.shape[1]) if centre is None else centre
    radius = np.median(np.linalg.norm(rows - centre, axis=1)) if radius is None else radius
    for _ in range(iterations):
        centre = centre + np.mean([clip(row - centre, radius) for row in rows], axis=0)
    return centre


def norm_clipping(rows, shares, bound=None):
    bound = np.median(np.linalg.norm(rows, axis=1)) if bound is None else bound
    return mean(np.array([clip(row, bound) for row in rows]), shares)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def foolsgold_trust(rows, confidence=1.0):
    n = len(rows)
    cs = [
        [max(0.0, cosine(rows[i], rows[j])) if i != j else 0.0 for j in range(n)] for i in range(n)
    ]
    v = [max(line) for line in cs]
    for i in range(n):
        for j in range(n):
            if v[j] > v[i]:
                cs[i][j] *= v[i] / v[j]
    a = [1 - max(line) for line in cs]
    a = [x if x > 1e-9 else 0.0 for x in a]
    top = max(a)
    out = []
    for x in a:
        x = x / top if top else 0.0
        if x in (0.0, 1.0):
            out.append(x)
        else:
            out.append(min(1.0, max(0.0, confidence * (np.log(x / (1 - x)) + 0.5))))
    return np.array(out)


def foolsgold(rows, confidence=1.0):
    trust = foolsgold_trust(rows, confidence)
    return trust @ rows / (trust.sum() or 1)


def fltrust(rows, own):
    scores = [max(0.0, cosine(row, own)) for row in rows]
    if not sum(scores):
        return np.zeros(rows.shape[1])
    scaled = [row * np.linalg.norm(own) / np.linalg.norm(row) for row in rows]
    return mean(scaled, scores)


def flame(rows, selected):
    """Everything but the clustering and the noise."""
    bound = np.median(np.linalg.norm(rows, axis=1))
    return np.mean([clip(row, bound) for row in rows[selected]], axis=0)


def robust_learning_rate(rows, shares, threshold):
    votes = np.abs(np.sign(rows).sum(axis=0))
    return np.where(votes >= threshold, 1, -1) * mean(rows, shares)


def dnc(rows, dropped):
    """One iteration on all coordinates, by a singular value decomposition."""
    centred = rows - rows.mean(axis=0)
    scores = (centred @ np.linalg.svd(centred, full_matrices=False)[2][0]) ** 2
    return rows[np.argsort(scores, kind="stable")[: len(rows) - dropped]].mean(axis=0)


def nearest_neighbour_mixing(rows, f):
    keep = len(rows) - f
    return np.array(
        [rows[np.argsort(line, kind="stable")[:keep]].mean(0) for line in squared(rows)]
    )


def adaptive_clipping(rows, f):
    n, lengths = len(rows), np.linalg.norm(rows, axis=1)
    clipped = int(np.floor(2 * f * (n - f) / n))
    bound = sorted(lengths, reverse=True)[clipped]
    return np.array([clip(row, bound) for row in rows])
