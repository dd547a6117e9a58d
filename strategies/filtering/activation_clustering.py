"""Activation clustering: the activations of a poisoned class fall into two clusters.

Chen et al., Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering, SafeAI
2019 (arXiv 1811.03728). Per class: the inputs of the last linear layer are reduced to 10
components and clustered by 2-means; the smaller cluster is in question, and one of the paper's
three tests decides on it:

    size          it is poison if its share of the class is below `size_threshold`
    silhouette    it is poison if the two clusters fit well: silhouette above `silhouette_threshold`
    exclusionary  a model is trained without it and classifies it: l rows as their label, p rows
                  as the most frequent other class; it is poison if l / p < `ratio_threshold`

Numbers tagged `code` are the defaults of the Adversarial Robustness Toolbox, with which S2 plays
this method. S0 A.2.6 uses independent components and the exclusionary test. Independent components
give every direction the same variance, the poisoned one too, so that 2-means with few restarts
often cuts elsewhere; principal components are the default, and unstable clusterings are reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from learning.answers import NO_CLASS, decided_rows
from learning.pool import Floats, Ints, Pool
from learning.training.job import Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict
from strategies.checks import refuse_unused
from strategies.filtering.parts.principal import Doubles, centre, project
from strategies.filtering.parts.ranked import UNTRAINED, unjudged, untrained
from strategies.filtering.parts.two_means import in_own_order, independent, smaller_of_two


@dataclass(frozen=True, eq=False)
class Cluster:
    """The cluster in question of one class.

    Attributes:
        label: The class.
        rows: Its positions in the pool, ascending.
        share: Its share of the class, in (0, 1/2].
        silhouette: Mean silhouette of the two clusters, in [-1, 1]; nan where not asked for.
        agreement: Lowest adjusted Rand index of the clustering with those of other restarts.
    """

    label: int
    rows: Ints
    share: float
    silhouette: float
    agreement: float


class ActivationClustering(Filter):
    """Removes the clusters that the chosen test takes for poison.

    A class of fewer than three rows, or whose activations are all alike, is skipped.
    """

    kind: Literal["activation_clustering"] = "activation_clustering"
    paper: ClassVar[str] = "Chen et al., Activation Clustering, SafeAI 2019"

    reduce: Literal["pca", "ica", "none"] = Field(
        "pca",
        description="`ica` is the papers' choice (raise n_init to 50 or more with it).",
        json_schema_extra={"origin": "ours"},
    )
    components: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Dimensions after the reduction; fewer where the activations span fewer.",
        json_schema_extra={"origin": "code"},
    )
    n_init: int = Field(
        10,
        ge=1,
        le=1000,
        description="Restarts of 2-means, of which the best is kept.",
        json_schema_extra={"origin": "ours"},
    )
    decision: Literal["size", "silhouette", "exclusionary"] = Field(
        "exclusionary",
        description="The test that decides whether a cluster is poison.",
        json_schema_extra={"origin": "paper"},
    )
    size_threshold: float = Field(
        0.35,
        gt=0,
        le=0.5,
        description="Read with decision: size.",
        json_schema_extra={"origin": "code"},
    )
    silhouette_threshold: float = Field(
        0.1,
        ge=-1,
        le=1,
        description="Read with decision: silhouette.",
        json_schema_extra={"origin": "code"},
    )
    ratio_threshold: float = Field(
        1.0,
        gt=0,
        description="Read with decision: exclusionary.",
        json_schema_extra={"origin": "deduced"},
    )
    stability_runs: int = Field(
        3,
        ge=0,
        le=100,
        description="Clusterings from other random starts that each is compared with.",
        json_schema_extra={"origin": "ours"},
    )
    stable_above: float = Field(
        0.9,
        ge=-1,
        le=1,
        description="Adjusted Rand index below which a clustering is reported as unstable.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_unused(self) -> ActivationClustering:
        uses = {
            "size": ("size_threshold",),
            "silhouette": ("silhouette_threshold",),
            "exclusionary": ("ratio_threshold",),
        }
        refuse_unused(self, "decision", uses)
        return self

    def inspect(self, pool: Pool, defender: Defender) -> TrainingRequests[Verdict]:
        """Judge the rows of `pool` by the activations of a model trained on all of them.

        The score of a row is 1 - its cluster's share of the class where its cluster is in
        question, else 0.
        """
        (model,) = yield [Training(pool)]
        if untrained(model):
            return unjudged(pool, UNTRAINED)
        features = defender.features(model, pool.x)
        if not np.isfinite(features).all():
            return unjudged(pool, "the activations are not finite (training diverged)")
        clusters, found = self.clusters(features, pool.y, defender)
        poison = yield from self._poison(clusters, pool, defender)
        if poison is None:
            return unjudged(pool, f"the exclusionary test: {UNTRAINED}")
        scores = np.zeros(len(pool), np.float32)
        for cluster in clusters:
            scores[cluster.rows] = 1 - cluster.share
        removed = np.sort(np.concatenate([pool.ids[:0], *(pool.ids[c.rows] for c in poison)]))
        return Verdict(removed, pool.ids, scores, found)

    def clusters(
        self, features: Floats, labels: Ints, defender: Defender
    ) -> tuple[list[Cluster], tuple[str, ...]]:
        """Return the cluster in question of each class, and notes on classes without a clear one.

        Args:
            features: Activations, float (n, d), finite.
            labels: int64 (n,).
            defender: Gives the random starts.
        """
        found: list[Cluster] = []
        notes: list[str] = []
        for label in range(defender.classes):
            rows = in_own_order(np.flatnonzero(labels == label), features)
            points = centre(features[rows])
            if self.reduce != "none":
                points = project(points, min(self.components, max(1, len(rows) - 1)))
            if len(rows) < 3 or not points.any():
                notes.append(f"class {label}: {len(rows)} rows without two clusters, skipped")
                continue
            cluster = self._cluster(label, rows, points, defender)
            found.append(cluster)
            if cluster.agreement < self.stable_above:
                notes.append(
                    f"class {label}: unstable clustering, adjusted Rand index "
                    f"{cluster.agreement:.2f} between random starts"
                )
        return found, tuple(notes)

    def _cluster(self, label: int, rows: Ints, points: Doubles, defender: Defender) -> Cluster:
        from sklearn.metrics import adjusted_rand_score, silhouette_score

        draws = defender.numpy_generator("activation_clustering")
        seeds = draws.integers(2**31, size=self.stability_runs + 1).tolist()
        if self.reduce == "ica":
            starts = [(independent(points, seed), seed) for seed in seeds]
        else:
            starts = [(points, seed) for seed in seeds]
        smaller, *others = [smaller_of_two(turned, self.n_init, seed) for turned, seed in starts]
        agreement = min((float(adjusted_rand_score(smaller, o)) for o in others), default=1.0)
        fit = float("nan")
        if self.decision == "silhouette":
            fit = float(silhouette_score(starts[0][0], smaller))
        return Cluster(label, np.sort(rows[smaller]), float(smaller.mean()), fit, agreement)

    def _poison(
        self, clusters: list[Cluster], pool: Pool, defender: Defender
    ) -> TrainingRequests[list[Cluster] | None]:
        """Return the clusters that the test takes for poison; None where it cannot judge."""
        if self.decision == "size":
            return [c for c in clusters if c.share < self.size_threshold]
        if self.decision == "silhouette":
            return [c for c in clusters if c.silhouette > self.silhouette_threshold]
        if not clusters:
            return []
        suspects = np.concatenate([pool.ids[cluster.rows] for cluster in clusters])
        (model,) = yield [Training(pool.without_rows(suspects.tolist()))]
        if untrained(model):
            return None
        out = []
        for cluster in clusters:
            predicted = decided_rows(defender.logits(model, pool.x[cluster.rows]))
            if exclusionary_ratio(predicted, cluster.label, pool.classes) < self.ratio_threshold:
                out.append(cluster)
        return out


def exclusionary_ratio(predicted: NDArray[np.int64], label: int, classes: int) -> float:
    """Return Chen et al.'s l / p of a cluster.

    Args:
        predicted: Classes that a model trained without the cluster gives its rows, int64 (n,);
            `NO_CLASS` is none of them.
        label: The label of the rows.
        classes: Number of classes.

    Returns:
        Rows predicted as `label`, divided by rows predicted as the most frequent other class;
        infinite where there are none of the latter, also where no row is given a class at all.
    """
    counts = np.bincount(predicted[predicted != NO_CLASS], minlength=classes)
    own = int(counts[label])
    other = int(np.delete(counts, label).max(initial=0))
    return own / other if other else float("inf")
