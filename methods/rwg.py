"""Groups seen equally often (Idrissi et al., CLeaR 2022; repository facebookresearch/BalancingGroups).

Uses bias labels.
"""

from __future__ import annotations

from methods import register
from methods.vanilla import Vanilla


@register("rwg")
class RWG(Vanilla):
    """Vanilla on samples drawn with replacement, so that groups (class, bias) are equally likely."""

    uses_bias_labels = True
    sampler = "group_balanced"
