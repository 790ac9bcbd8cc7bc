"""Draw docs/gifl.png: what Poisoner's second stage does to a network that knows nothing but the bias.

    python tests/tools/gifl_picture.py

Such a network has one number v: the logit that the class of the sample's bias is ahead of all others by. On aligned
samples that is the right class, on conflicting ones a wrong one. The picture shows which way the gradient of Eq. 8 to
11 moves v, on a perfect split at λ = 1.25, with each group at its mean.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from benchmark.report.style import BLACK, PAGE, RED, SKY, plain
from methods.poisoner import Differentiated, gifl_multipliers

OUT = Path(__file__).parents[2] / "docs" / "gifl.png"
LAMBDA = 1.25
READINGS: dict[str, tuple[float, Differentiated, str, str]] = {
    "without GIFL": (0.0, "neither", BLACK, ":"),
    "means as constants": (1.0, "neither", SKY, "--"),
    "means differentiated": (1.0, "both", RED, "-"),
}


def pull(v: torch.Tensor, classes: int, gamma: float, differentiated: Differentiated) -> torch.Tensor:
    """−dL/dv at each v."""
    v = v.clone().requires_grad_()
    total = torch.exp(v) + classes - 1
    aligned, conflicting = torch.exp(v) / total, 1 / total
    loss = torch.zeros_like(v)
    for place in range(len(v)):
        of_aligned, of_conflicting = gifl_multipliers(
            aligned[place], conflicting[place], gamma, 0.0, 10.0, differentiated
        )
        loss[place] = -of_aligned * aligned[place].log() - LAMBDA * of_conflicting * conflicting[place].log()
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    return -gradient


def balance(v: torch.Tensor, force: torch.Tensor) -> float | None:
    """Where the pull changes from right to left, as v grows, or None."""
    (places,) = torch.nonzero((force[:-1] > 0) & (force[1:] <= 0), as_tuple=True)
    return float(v[places[0]]) if len(places) else None


def main() -> None:
    drawing, axes = plt.subplots(1, 2, figsize=(PAGE, 2.4), layout="constrained", sharey=True)
    v = torch.linspace(-8, 8, 401, dtype=torch.float64)
    for axis, classes in zip(axes, (2, 10), strict=True):
        for label, (gamma, differentiated, colour, dash) in READINGS.items():
            force = pull(v, classes, gamma, differentiated)
            axis.plot(v, force, color=colour, linestyle=dash, label=label)
            if (rest := balance(v, force)) is not None:
                axis.plot(rest, 0, "o", color=colour)
        axis.axhline(0, color=BLACK, linewidth=0.6)
        axis.set(title=f"{classes} classes", xlabel="v: against the bias (left), by the bias (right)")
        plain(axis)
    axes[0].set_ylabel("pull on v (above 0: to the right)")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    drawing.savefig(OUT, dpi=200)


if __name__ == "__main__":
    main()
