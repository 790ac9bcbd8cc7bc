"""Per-sample losses and scores, as pure functions of logits or representations. All return a tensor [m]."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

# The q of the generalised cross-entropy, which divides by it.
GCEExponent = Annotated[float, Meta(ge=1e-6, le=1.0)]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−log p_y."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def focal(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """−(1 − p_y)^γ log p_y (Lin et al. 2017), without class-balancing factor."""
    ce = cross_entropy(logits, targets)
    # The clamp keeps the derivative of the power finite where p_y rounds to 1 and γ < 1.
    return (-torch.expm1(-ce)).clamp_min(1e-8) ** gamma * ce


def generalized_cross_entropy(logits: Tensor, targets: Tensor, q: GCEExponent) -> Tensor:
    """(1 − p_y^q)/q (Zhang & Sabuncu 2018); its gradient is p_y^q times that of the cross-entropy."""
    return -torch.expm1(-q * cross_entropy(logits, targets)) / q


def contrastive_dissimilarity(representations: Tensor, labels: Tensor) -> Tensor:
    """Poisoner's score d (Eq. 4): how unlike the others of its label a sample is, within the batch.

    With z = h/‖h‖, J(i) the other samples of i's label and A(i) all other samples,
    d_i = log Σ_{a∈A(i)} exp(z_i·z_a) − mean_{j∈J(i)} z_i·z_j. A sample alone with its label gets −∞: nothing
    in the batch speaks for or against it.

    representations: [m, d]; labels: [m].
    """
    z = representations.float()
    z = z / (z.norm(dim=1, keepdim=True) + 1e-12)
    similarity = z @ z.T
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same_label = (labels[:, None] == labels[None, :]) & ~itself
    peers = same_label.sum(1)
    attraction = (similarity * same_label).sum(1) / peers.clamp_min(1)
    spread = similarity.masked_fill(itself, -torch.inf).logsumexp(1)
    return torch.where(peers > 0, spread - attraction, -torch.inf)


def quantile(values: Tensor, q: float) -> Tensor:
    """The q-quantile of ``values`` [m], linear between order statistics; unlike torch's, it can be vectorised."""
    ordered = values.sort().values
    below, between = divmod(q * (len(values) - 1), 1)
    above = min(int(below) + 1, len(values) - 1)
    return torch.lerp(ordered[int(below)], ordered[above], between)
