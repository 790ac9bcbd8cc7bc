"""The loader: batches of one split on the device, without worker processes and without per-image Python.

Images that fit live on the device as one uint8 tensor, of which a batch is gathered by index. Others stay in their
memory map; a thread gathers the next batch into pinned memory and sends it while the device works on this one.
Normalising, flipping and cropping happen on the device, a batch at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.training.networks import memory_format
from datasets import Split

# Clean predictions are made in batches of at most so many images and pixels, so that activations stay small. A small
# network on a GPU is held to the pixels only: launching its kernels takes longer than running them.
EVALUATION_BATCH, EVALUATION_PIXELS = 512, 1 << 23


def free_memory(device: torch.device) -> float:
    """Bytes that could be had on the device now; infinite where the system does not tell."""
    if device.type == "cuda":
        # What PyTorch keeps of earlier tensors, it gives up before it says that there is no more.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return float("inf")


class DeviceSplit:
    """One split as the device sees it: uint8 images [n, 3, H, W], labels [n], groups y·B + b [n].

    Images are resident when they take at most half of the free memory, and streamed otherwise.
    """

    def __init__(self, split: Split, num_biases: int, settings: dict[str, Any], device: torch.device) -> None:
        self.device = device
        self.resident = split.images.nbytes <= free_memory(device) / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a read-only map is only read
            images = torch.from_numpy(split.images)
        # On the CPU a map is resident as it is: the system keeps its pages in memory.
        self.images = images.to(device) if self.resident else images
        self.targets = torch.from_numpy(split.targets).to(device)
        self.bias = torch.from_numpy(split.bias).to(device)
        self.groups = self.targets * num_biases + self.bias
        mean, std = (torch.tensor(settings[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def __len__(self) -> int:
        return len(self.targets)

    def normalise(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """(x/255 − mean)/std as float32, in ``out`` if given.

        In place after the conversion: on the CPU that is several times faster.
        """
        floats = images.float() if out is None else out.copy_(images)
        return floats.mul_(self._scale).add_(self._shift)

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices [m] and uint8 images [m, 3, H, W], both on the device, of each row of ``order`` [k, m] (CPU).

        Images hold until the next are asked for: memory that the system gives anew in every step costs a CPU 5 % of
        the MLP's time.
        """
        indices = order.to(self.device, non_blocking=True)
        if self.resident:
            images = torch.empty((order.shape[1], *self.images.shape[1:]), dtype=torch.uint8, device=self.device)
            yield from ((row, torch.index_select(self.images, 0, row, out=images)) for row in indices)
        else:
            yield from zip(indices, _stream(self.images, order, self.device), strict=True)

    def logits(self, network: nn.Module) -> Tensor:
        """Clean predictions [n, C] of a network: evaluation mode, no augmentation."""
        return self.logits_of([network])[0]

    @torch.inference_mode()
    def logits_of(self, networks: Sequence[nn.Module]) -> Tensor:
        """Clean predictions [S, n, C] of the networks of S seeds, which are computed as one network."""
        first, layout = networks[0], memory_format(networks[0])
        height, width = self.images.shape[2:]
        size = max(1, EVALUATION_PIXELS // (height * width))
        if self.device.type == "cpu" or layout is torch.channels_last:
            size = min(size, EVALUATION_BATCH)
        chunks: Iterable[Tensor] = self.images.split(size)
        if not self.resident:
            chunks = _stream(self.images, torch.arange(len(self)).split(size), self.device)
        modes = [network.training for network in networks]
        for network in networks:
            network.eval()
        predict = first if len(networks) == 1 else _together(networks)
        logits = [predict(self.normalise(chunk.contiguous(memory_format=layout))).float() for chunk in chunks]
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
        return torch.cat(logits, -2).view(len(networks), len(self), -1)


def _together(networks: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Networks of one kind as one: images [m, 3, H, W] -> logits [S, m, C]."""
    own = [dict(network.named_parameters()) | dict(network.named_buffers()) for network in networks]
    state = {name: torch.stack([tensors[name] for tensors in own]) for name in own[0]}
    return lambda images: torch.vmap(lambda of_one: functional_call(networks[0], of_one, (images,)))(state)


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The one that batches are sent in, of which there is no more than one: PyTorch keeps memory for each."""
    return torch.cuda.Stream(device)


def _stream(images: Tensor, order: Sequence[Tensor] | Tensor, device: torch.device) -> Iterator[Tensor]:
    """``images[rows]`` on the device for each ``rows`` in ``order``, gathered one step ahead by a thread.

    What is yielded holds until the next but one is asked for.
    """
    if not len(order):
        return
    on_gpu = device.type == "cuda"
    shape = (max(len(rows) for rows in order), *images.shape[1:])
    with torch.inference_mode(False):  # the thread could not write to buffers made in that mode
        buffers = [torch.empty(shape, dtype=images.dtype, pin_memory=on_gpu) for _ in range(2)]
    stream = _copy_stream(device) if on_gpu else None
    sent = [torch.cuda.Event() for _ in buffers] if on_gpu else []

    def fetch(number: int) -> Tensor:
        rows, buffer = order[number], buffers[number % 2]
        if stream is None:
            return torch.index_select(images, 0, rows, out=buffer[: len(rows)])
        sent[number % 2].synchronize()  # the copy out of this buffer, two batches ago; waits in this thread only
        torch.index_select(images, 0, rows, out=buffer[: len(rows)])
        with torch.cuda.stream(stream):
            batch = buffer[: len(rows)].to(device, non_blocking=True)
            sent[number % 2].record(stream)
        return batch

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(fetch, 0)
        for number in range(len(order)):
            batch = ahead.result()
            if stream is not None:
                current = torch.cuda.current_stream(device)
                current.wait_event(sent[number % 2])
                batch.record_stream(current)
            if number + 1 < len(order):
                ahead = thread.submit(fetch, number + 1)
            yield batch


class Augmentation:
    """Random horizontal flips and random crops, as a task's settings declare.

    ``flip`` true or false. ``crop_padding``: crops of the image padded with black by so many pixels. ``crop_scale``:
    crops of a share of the image's area between this and 1, with sides of 3:4 to 4:3, enlarged to the image's size
    (Szegedy et al., 2015); 1 takes none. Never both.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.flip = settings.get("flip", False)
        self.padding = settings.get("crop_padding", 0)
        self.scale = settings.get("crop_scale", 1.0)

    @property
    def varies(self) -> bool:
        """Whether an image can look different from one epoch to the next."""
        return bool(self.flip or self.padding or self.scale < 1)

    def draw(self, batches: int, m: int, generator: torch.Generator) -> Tensor:
        """What happens to every image of an epoch: flip, top and left, int64 [batches, m, 3].

        With resized crops flip, top, left, height and width in shares of the image's, float [batches, m, 5]. If
        nothing varies, [batches, 0].
        """
        if not self.varies:
            return torch.empty(batches, 0)
        flip = torch.randint(1 + self.flip, (batches, m, 1), generator=generator)
        if self.scale < 1:
            return torch.cat((flip, self._boxes(batches, m, generator)), 2)
        corner = torch.randint(2 * self.padding + 1, (batches, m, 2), generator=generator)
        return torch.cat((flip, corner), 2)

    def _boxes(self, batches: int, m: int, generator: torch.Generator) -> Tensor:
        """Top, left, height and width [batches, m, 4]. Ratios are those of 3:4 to 4:3 at which the area fits."""
        area, ratio, *corner = torch.rand(4, batches, m, generator=generator)
        area = self.scale + (1 - self.scale) * area
        widest = (1 / area).clamp_max(4 / 3).log()
        sides = ((area.log() + torch.tensor([[[-1.0]], [[1.0]]]) * widest * (2 * ratio - 1)) / 2).exp()
        return torch.cat(((1 - sides) * torch.stack(corner), sides)).permute(1, 2, 0)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """uint8 images [m, 3, H, W] changed by their draws: by [m, 3] to uint8, by [m, 5] to floats in [0, 255]."""
        if not self.varies:
            return images
        if self.scale < 1:
            return _resized(images, draws)
        height, width = images.shape[2:]
        flip, top, left = draws.unbind(1)
        rows = top[:, None] + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        columns = left[:, None] + torch.where(flip[:, None] > 0, width - 1 - columns, columns)
        padded = F.pad(images, (self.padding,) * 4)
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        # Indexed as [m, H, W] positions of [3]: the result is channels-last by itself.
        return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _resized(images: Tensor, draws: Tensor) -> Tensor:
    """Boxes [m, 5] of images as floats of the images' size, in one bilinear look-up.

    A box is never larger than its image, so that nothing needs to be smoothed before.
    """
    floats = images.float()
    flip, top, left, height, width = draws.to(floats.dtype).unbind(1)
    # Output coordinates in [-1, 1], the middle of a box being its corner and half its side, to those of the image.
    zero, across = torch.zeros_like(flip), width * (1 - 2 * flip)
    middle = [2 * corner + side - 1 for corner, side in ((left, width), (top, height))]
    boxes = torch.stack((across, zero, middle[0], zero, height, middle[1]), 1).view(-1, 2, 3)
    grid = F.affine_grid(boxes, list(floats.shape), align_corners=False)
    return F.grid_sample(floats, grid, padding_mode="border", align_corners=False)
