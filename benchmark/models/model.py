"""A kept model, ready to predict."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.errors import UserError, unknown
from benchmark.rules import Rule
from benchmark.store.record import Record
from benchmark.store.store import ANSWERS
from benchmark.training.loader import DeviceSplit
from datasets import Split
from datasets.listing import Fit
from datasets.prepared import FITS, fitted, read
from methods.base import Network


@dataclass(frozen=True)
class Model:
    """A kept model, ready to predict: its target ``network``, in evaluation mode, and the ``biased`` one if there is.

    ``classes`` are named in the order of the network's logits. ``notes`` are what a user must know.
    """

    record: Record
    rule: Rule
    network: Network
    biased: Network | None
    image_shape: tuple[int, ...]
    fit: str
    device: torch.device
    path: Path
    digest_of_predictions: str
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.record.groups.classes)

    @property
    def epoch(self) -> int:
        return self.record.epoch(self.rule) or 0

    @property
    def title(self) -> str:
        """Such as "my_birds/jtt/0123456789ab-s0, epoch 7 of 10 (last epoch)"."""
        return f"{self.record.run.id}, epoch {self.epoch} of {self.record.answers.epochs[-1]} ({self.rule.note})"

    def read(self, path: Path) -> np.ndarray:
        """``prepare`` of an image file. Raises UserError, naming it, where that cannot be read."""
        return read(path, *self._fit()).transpose(2, 0, 1)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """An image as those of the data set are prepared: uint8 [3, size, size].

        Raises UserError for one of more than 8 bits a channel, and where the network takes no square images.
        """
        return fitted(image, *self._fit()).transpose(2, 0, 1)

    def _fit(self) -> tuple[Fit, int]:
        """How an image is brought to its size, and that size in pixels."""
        height, width = self.image_shape[1:]
        if self.fit not in FITS:
            raise unknown("way to prepare an image", self.fit, FITS)
        if height != width:
            raise UserError(f"The network takes images of {width} × {height} pixels: prepare them yourself.")
        return FITS[self.fit], height

    def transform(self, image: Image.Image) -> Tensor:
        """What ``network`` takes, float32 [3, size, size]: the image prepared and normalised. Raises as ``prepare``."""
        split = self._split(self.prepare(image)[None])
        return split.normalise(split.images.to(self.device))[0]

    def predict(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities of the classes, float32 [n, C], of images of any size. Raises as ``prepare``."""
        pixels = [self.prepare(image) for image in images]
        return self.probabilities(np.stack(pixels) if pixels else np.empty((0, *self.image_shape), np.uint8))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Those of images as they are prepared, uint8 [n, 3, H, W]."""
        with _threads(self.record):
            return probabilities(self.network, self._split(pixels))

    def kept_predictions(self) -> dict[str, np.ndarray]:
        """What the network said of its data set when it was kept.

        Of "test" and "validation" images in their order: test_probabilities, float32 [n, C]; test_targets, test_bias,
        int64 [n], bias −1 where unknown; test_files, [n], or none where images come from no files of their own. Raises
        UserError where the file is not there or not what was stored.
        """
        path = self.path.with_suffix(ANSWERS)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): restore it.") from error
        if hashlib.sha256(content).hexdigest() != self.digest_of_predictions:
            raise UserError(f"{path} is damaged: restore it, or predict anew.")
        with np.load(io.BytesIO(content)) as stored:
            return dict(stored)

    def _split(self, pixels: np.ndarray) -> DeviceSplit:
        labels = np.zeros(len(pixels), np.int64)
        return DeviceSplit(Split(pixels, labels, labels), 1, self.record.settings, self.device)


def probabilities(network: Network, split: DeviceSplit) -> np.ndarray:
    """Float32 [n, C]. What is too small for a normal number is 0, as it is where training computes."""
    if not len(split):
        return np.empty((0, network.classifier.out_features), np.float32)
    found = split.logits(network).softmax(1)
    return torch.where(found < torch.finfo(found.dtype).tiny, 0, found).cpu().numpy()


@contextmanager
def _threads(record: Record) -> Iterator[None]:
    """As many as training has: one for the small network, by which its sums are the same on any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if record.settings["network"] == "mlp" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
