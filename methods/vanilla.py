"""Vanilla training (ERM), and its siblings that differ only in the per-sample loss or in the sampler."""

from __future__ import annotations

from torch import Tensor

from benchmark.errors import TrainingError
from methods import losses, register
from methods.base import Batch, Method, NewNetwork, Phase, Sampler, Step, TrainingSet


@register("vanilla")
class Vanilla(Method):
    """Cross-entropy on shuffled batches. Read as a biased model it is the ERM row of Table 3."""

    sampler: Sampler = "shuffled"

    def __init__(self, data: TrainingSet, new_network: NewNetwork, epochs: int) -> None:
        super().__init__(data, new_network, epochs)
        self.target = self.biased = new_network()

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", (Step(self.loss, (self.target,)),), self.epochs, sampler=self.sampler),)

    def loss(self, batch: Batch) -> Tensor:
        loss = self.sample_loss(self.target(batch.images), batch.targets)
        if getattr(loss, "shape", None) != batch.targets.shape:  # its mean would be a number all the same
            given = f"{list(loss.shape)} numbers" if isinstance(loss, Tensor) else repr(loss)
            raise TrainingError(
                f"sample_loss of {type(self).__name__} gives {given} for {len(batch.targets)} images: it must give one "
                "number for each."
            )
        return loss.mean()

    def sample_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return losses.cross_entropy(logits, targets)
