"""The rules again, as plain float64 loops that follow the papers line by line."""

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
    out = np.empty(rows.shape[1])
    for at, values in enumerate(rows.T):
        distance = np.abs(np.sort(values) - np.median(values))
        out[at] = np.sort(values)[np.argsort(distance, kind="stable")[:keep]].mean()
    return out
