"""Cluster-Margin: images with small margins, from as many clusters as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from fm_al.strategies.base import FLOAT, Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions
from fm_al.strategies.clustering import BATCH, nearest
from fm_al.strategies.lowest import lowest
from fm_al.strategies.margin import margins
from fm_al.strategies.representation import FeatureOptions


@dataclass(frozen=True, kw_only=True)
class ClusterMargin(CandidateOptions, FeatureOptions, Strategy):
    """Take the lowest margins, and pick one image per cluster in turn, the smallest cluster first.

    Batch Active Learning at Scale (Citovsky et al. 2021, arXiv 2107.14263, algorithm 2). Clusters
    are those of average linkage, cut where images per cluster are `images_per_cluster` on average.
    The size of a cluster is the number of its images among the lowest margins; of clusters of the
    same size, the one with the lowest margin comes first. A cluster gives its lowest margin first;
    so does the code of GALAXY's authors, while the paper draws one at random. Nothing is random
    here.

    Hierarchical clustering needs all distances. So some images, evenly spaced over the pool, are
    clustered, and any other image joins the cluster with the nearest mean. In a pool of N images
    clusters are thus larger by N / `cluster_images`. The paper clusters once per run. Fixed
    features give the same clusters in every round (but with `max_candidates`, which changes the
    pool); `embeddings` give those of the round's network.

    Recorded are the numbers of images with the lowest margins (`low_margins`), of images that were
    clustered (`clustered`), of clusters (`clusters`), and of clusters with an image among the
    lowest margins (`low_margin_clusters`).

    Args:
        margin_factor: Lowest margins, as a multiple of n.
        cluster_images: Images that are clustered, at most.
        images_per_cluster: Of these, on average.
    """

    margin_factor: Annotated[float, Field(ge=1)] = 1.25
    cluster_images: Annotated[int, Field(ge=1)] = 5000
    images_per_cluster: Annotated[float, Field(ge=1)] = 10.0

    def memory(self, sizes: QuerySizes, n: int) -> dict[str, int]:
        low, count = self._low_margins(n, sizes.images), self._count(sizes.images)
        clustered = min(sizes.images, self.cluster_images)
        points = (2 * low + 3 * clustered + 3 * count) * self.dimension(sizes)
        members, distances = clustered * count, 3 * min(low, BATCH) * count
        return (
            sizes.embeddings
            | sizes.scores
            | self.points_memory(sizes)
            | {f"{clustered:,} images in {count:,} clusters": FLOAT * (points + members)}
            | {f"distances of {low:,} images": FLOAT * distances}
        )

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        unlabelled = query.unlabelled
        margin = query.scores(margins)[unlabelled]
        low = unlabelled[lowest(margin, self._low_margins(n, len(unlabelled)))]
        points = self.points(query)
        tree = evenly_spaced(len(points), self.cluster_images).to(query.device)
        labels = average_linkage(points[tree], self._count(len(points))).to(query.device)
        clusters = _clusters_of(low, points, tree, labels)
        query.record("low_margins", len(low))
        query.record("clustered", len(tree))
        query.record("clusters", int(labels.max()) + 1)
        query.record("low_margin_clusters", len(clusters.unique()))
        return low[round_robin(clusters.cpu().numpy())[:n].to(query.device)]

    def _low_margins(self, n: int, images: int) -> int:
        return min(int(self.margin_factor * n), images)

    def _count(self, images: int) -> int:
        """The most clusters of a pool of so many images."""
        return max(1, round(min(images, self.cluster_images) / self.images_per_cluster))


def evenly_spaced(count: int, most: int) -> Tensor:
    """At most so many indices below `count`, evenly spaced from 0, int64 ascending."""
    kept = min(count, most)
    return torch.arange(kept) * count // kept


def average_linkage(points: Tensor, count: int) -> Tensor:
    """Cluster by average linkage of Euclidean distances.

    Args:
        points: float32 (M, D). Takes 8 M^2 bytes of main memory.
        count: The most clusters. The tree is cut at one height, so equal points stay together.

    Returns:
        The cluster of every point, int64 (M,) on the CPU, numbered from 0.
    """
    if len(points) == 1:
        return torch.zeros(1, dtype=torch.int64)
    tree = linkage(points.cpu().double().numpy(), method="average")
    labels = fcluster(tree, count, criterion="maxclust")
    return torch.from_numpy(labels.astype(np.int64)) - 1


def _clusters_of(images: Tensor, points: Tensor, tree: Tensor, labels: Tensor) -> Tensor:
    """The cluster of each of these images: its own if it is one of the tree's, else the one whose
    mean is nearest."""
    clustered = points[tree]
    centre = clustered.mean(dim=0)  # keeps distances, and makes products round less
    # A product with the one-hot members sums in a fixed order; index_add_ on CUDA does not.
    members = points.new_zeros(int(labels.max()) + 1, len(tree)).scatter_(0, labels[None], 1)
    means = members @ clustered.sub_(centre) / members.sum(dim=1, keepdim=True)
    clusters = nearest(points[images] - centre, means)
    place = torch.searchsorted(tree, images).clamp(max=len(tree) - 1)
    return torch.where(tree[place] == images, labels[place], clusters)


def round_robin(clusters: np.ndarray) -> Tensor:
    """Order items so that the clusters take turns, those with the fewest items first.

    Within a cluster items keep their order; of clusters of one size, that of the first item is
    first. A cluster without items left is passed over.

    Args:
        clusters: Of each item, int64 (M,).

    Returns:
        The order, int64 (M,).
    """
    _, first, kind, sizes = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    kind = kind.reshape(-1)
    by_cluster = kind.argsort(kind="stable")
    starts = np.cumsum(sizes) - sizes
    turn = np.empty(len(clusters), dtype=np.int64)
    turn[by_cluster] = np.arange(len(clusters)) - starts[kind[by_cluster]]
    return torch.from_numpy(np.lexsort((first[kind], sizes[kind], turn)))
