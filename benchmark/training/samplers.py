"""The order in which an epoch visits the images of a split.

Every function returns an int64 matrix [updates, m] of sample indices, one row a batch. All batches are full, so
that shapes are static; an epoch has ⌈n/m⌉ of them. Orders are drawn on the CPU from one generator, hence are
the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shuffled(n: int, m: int, generator: torch.Generator) -> Tensor:
    """A permutation cut into batches; the last is topped up from the head, whose samples it does not hold."""
    order = torch.randperm(n, generator=generator)
    missing = -n % m
    return torch.cat((order, order[:missing])).view(-1, m)


def weighted(weights: Tensor, m: int, generator: torch.Generator) -> Tensor:
    """Independent draws with replacement, each sample with probability proportional to its weight [n]."""
    updates = -(-len(weights) // m)
    cumulative = weights.double().cumsum(0)
    draws = torch.rand(updates * m, dtype=torch.float64, generator=generator) * cumulative[-1]
    # Rounding may push a draw onto the total itself.
    return torch.searchsorted(cumulative, draws, right=True).clamp_max(len(weights) - 1).view(updates, m)


def class_balanced(targets: Tensor, num_classes: int, m: int, generator: torch.Generator) -> Tensor:
    """As many samples of each class in every batch, or one more for classes taking turns where C does not divide m.

    Within a batch no sample occurs twice, unless its class has fewer samples than a batch takes of it.
    """
    n = len(targets)
    updates = -(-n // m)
    quota, extra = divmod(m, num_classes)
    width = quota + (extra > 0)
    columns = torch.stack(
        [_strata((targets == c).nonzero().squeeze(1), updates, width, generator) for c in range(num_classes)]
    )  # [C, updates, width]
    batches = columns[:, :, :quota].permute(1, 0, 2).reshape(updates, -1)
    if extra:
        turn = (torch.arange(updates)[:, None] * extra + torch.arange(extra)) % num_classes
        batches = torch.cat((batches, columns[turn, torch.arange(updates)[:, None], quota]), 1)
    return batches


def _strata(members: Tensor, rows: int, width: int, generator: torch.Generator) -> Tensor:
    """[rows, width]: permutations of ``members`` cut into rows, dropping what does not fill one."""
    if len(members) == 0:
        raise ValueError("A class-balanced batch needs every class in the phase's split.")
    if len(members) < width:
        members = members.repeat(-(-width // len(members)))
    per_permutation = len(members) // width
    permutations = -(-rows // per_permutation)
    order = torch.rand(permutations, len(members), generator=generator).argsort(1)
    cut = members[order[:, : per_permutation * width]]
    return cut.reshape(-1, width)[:rows]
