"""How good samples look, against real sequences: what a judge's features and sharpness say.

Features are what the judge's heads see of a sequence: the last states of its bidirectional LSTM. In
their space stand

* the Frechet distance of Heusel et al. (2017), |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) with means
  m and covariances C. They take an Inception network of photographs for the features, and its
  figure is known as FID; this one is another space's, and comparable under one judge and for one
  number of sequences alone. Of two sets of one distribution it is above 0, the more the fewer
  they are, and less so for reconstructions, which have the real sequences' own contents;
* the improved precision and recall of Kynkaanniemi et al. (2019): the share of samples within the
  manifold of real sequences, and the reverse. A manifold is the union of balls around its points,
  each up to the point's k-th nearest neighbour.

Sharpness is the mean, over frames, of the variance of the Laplacian of grey values (Pech-Pacheco et
al. 2000), as a ratio to that of real frames: below 1 is blurred.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dsae.analyses.codes import Codes, batches, device_of, seeded
from pyro_dsae.evaluation import UnmeasurableError
from pyro_dsae.evaluation.judge import Judge, check_accuracy, check_frames, hits
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, length_mask

NEIGHBOURS = 3  # k of the paper


@dataclass(frozen=True)
class Quality:
    """Generated sequences against as many real ones.

    Args:
        frechet_distance: in the judge's feature space; 0 for the real sequences themselves.
        precision: share of the generated within the manifold of the real.
        recall: share of the real within the manifold of the generated.
        sharpness: over that of the real.
    """

    frechet_distance: float
    precision: float
    recall: float
    sharpness: float


@dataclass(frozen=True)
class SampleQuality:
    """Args:
    sequences: how many of each.
    neighbours: k of precision and recall.
    samples: decode(f ~ p(f), z ~ p(z_1:T)).
    fixed_motion: decode(f ~ p(f), z of a real sequence).
    reconstructions: decode(f, z) of the real sequences.
    """

    sequences: int
    neighbours: int
    samples: Quality
    fixed_motion: Quality
    reconstructions: Quality


@torch.no_grad()
def sample_quality(
    dsae: DSAE,
    judge: Judge,
    sequences: Sequences,
    codes: Codes,
    static: np.ndarray,
    dynamic: np.ndarray,
    seed: int = 0,
    neighbours: int = NEIGHBOURS,
) -> SampleQuality:
    """Measure what ``dsae`` generates against all ``sequences``; a sample for each, as long.

    Args:
        dsae: in eval mode, where it shall run.
        judge: in eval mode, there as well.
        codes: the sequences' posterior means, by :func:`~pyro_dsae.analyses.codes.encode`.
        static: labels of the appearance, int (N, k), in the order of ``judge.config.static``.
        dynamic: labels of the motion, int (N, m), in the order of ``judge.config.dynamic``.
        seed: of the draws. The caller's random numbers are left alone.
        neighbours: k of precision and recall.

    Raises JudgeError when the judge does not fit the sequences or is below 99.9 % on a head, on its
    own test part or on these, and UnmeasurableError when there are no more sequences than
    neighbours.
    """
    check_accuracy(judge.accuracy, "its own test part")
    check_frames(judge, sequences)
    targets = judge.config.targets(static, dynamic)
    device, lengths = device_of(dsae), sequences.lengths
    rows = batches(len(sequences))
    real = _seen(judge, (sequences.batch(chosen, device) for chosen in rows))
    named = judge.named(real[0].to(device)).items()
    check_accuracy(
        hits({name: logits.cpu() for name, logits in named}, targets), "the sequences to evaluate"
    )
    with seeded(seed, device):
        f, z = dsae.model.draw(len(sequences), codes.z.shape[1])

    def quality(f: Tensor, z: Tensor) -> Quality:
        steps = z.shape[1]
        features, sharpness = _seen(
            judge,
            (
                (dsae.decode(f[chosen], z[chosen]), length_mask(lengths[chosen], steps, device))
                for chosen in rows
            ),
        )
        precision, recall = precision_recall(real[0], features, neighbours)
        distance = frechet_distance(real[0], features)
        return Quality(distance, precision, recall, sharpness / real[1])

    return SampleQuality(
        sequences=len(sequences),
        neighbours=neighbours,
        samples=quality(f, z),
        fixed_motion=quality(f, codes.z),
        reconstructions=quality(codes.f, codes.z),
    )


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Of the normals with the means and covariances of two sets of features, (N, D) and (M, D)."""
    first, second = first.double(), second.double()
    root = _root(torch.cov(first.T).reshape(first.shape[1], -1))
    other = torch.cov(second.T).reshape(second.shape[1], -1)
    # tr (C C')^(1/2) by a symmetric matrix with the same eigenvalues.
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    means = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    distance = means + (root @ root).trace() + other.trace() - 2 * cross
    return max(0.0, distance.item())  # rounding may leave it below


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def precision_recall(
    real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Improved precision and recall of features (N, D) and (M, D).

    Raises UnmeasurableError when a set has no more points than ``neighbours``.
    """
    for points in (real, generated):
        if len(points) <= neighbours:
            raise UnmeasurableError(
                f"there are {len(points)} sequences, but {neighbours} neighbours of each are "
                "needed; use more sequences"
            )
    real, generated = real.double(), generated.double()
    distances = torch.cdist(real, generated)  # (N, M)
    precision = (distances <= _radii(real, neighbours).unsqueeze(1)).any(dim=0)
    recall = (distances <= _radii(generated, neighbours).unsqueeze(0)).any(dim=1)
    return precision.double().mean().item(), recall.double().mean().item()


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """The distance of each point (N, D) to its k-th nearest neighbour, itself left out: (N,)."""
    return torch.cdist(points, points).kthvalue(neighbours + 1, dim=1).values


def sharpness(frames: Tensor) -> Tensor:
    """The variance of the Laplacian of the grey values of frames (N, C, H, W) in [0, 1]: (N,)."""
    kernel = frames.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(1, 1, 3, 3)
    return F.conv2d(frames.mean(dim=1, keepdim=True), kernel).flatten(1).var(dim=1)


def _seen(judge: Judge, parts: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, float]:
    """The judge's features of batches of frames with their masks, (N, D), and mean sharpness."""
    features, sharp = [], []
    for x, mask in parts:
        features.append(judge.features(x, mask).cpu())
        sharp.append(sharpness(x.flatten(0, 1) if mask is None else x[mask]).cpu())
    return torch.cat(features), torch.cat(sharp).mean().item()
