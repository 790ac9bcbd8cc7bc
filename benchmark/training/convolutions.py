"""Convolutions over few pixels, on a processor: as matrix products over all images at once.

oneDNN takes images one at a time, each of less than its kernels are made for: in ResNet-18 at 64 pixels, the layers of
4 × 4 and 2 × 2 pixels have less than half of the operations and would take half of a training step (docs/speed.md).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 4  # rows of output up to which a matrix product is faster


def speed_up(module: nn.Module) -> None:
    """Let the convolutions of a module on a processor compute so, where it is faster."""
    for each in module.modules():
        if isinstance(each, nn.Conv2d) and _is_plain(each):
            each.forward = _convolving(each)  # type: ignore[method-assign]


def _is_plain(layer: nn.Conv2d) -> bool:
    zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return zeros and layer.groups == 1 and layer.dilation == (1, 1) and layer.bias is None


def _convolving(layer: nn.Conv2d) -> Any:
    plain = layer.forward

    def convolved(images: Tensor) -> Tensor:
        rows = (images.shape[2] + 2 * layer.padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1  # type: ignore[operator]
        if rows > MOST:
            return plain(images)
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
        return _Convolution.apply(images.to(precision), layer.weight.to(precision), layer.stride, layer.padding)

    return convolved


class _Convolution(torch.autograd.Function):
    """Images [m, c, h, w], weights [d, c, k, l] -> [m, d, h', w'], channels last."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        (d, _, *kernel), (top, left) = weight.shape, padding
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
        windows = padded.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])  # [m, h', w', c, k, l]
        m, height, width = windows.shape[:3]
        flat = windows.permute(0, 1, 2, 4, 5, 3).reshape(m * height * width, -1)
        ctx.save_for_backward(flat, weight)
        ctx.stride, ctx.padding, ctx.padded = stride, padding, padded.shape
        return (flat @ _as_matrix(weight).t()).view(m, height, width, d).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        flat, weight = ctx.saved_tensors
        (d, c, *kernel), (m, _, height, width) = weight.shape, gradient.shape
        of_outputs = gradient.permute(0, 2, 3, 1).reshape(-1, d)
        of_weight = (of_outputs.t() @ flat).view(d, *kernel, c).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None, None
        of_windows = (of_outputs @ _as_matrix(weight)).view(m, height, width, *kernel, c)
        sums = torch.promote_types(gradient.dtype, torch.float32)  # of up to k · l windows
        of_padded = gradient.new_zeros(ctx.padded, dtype=sums)
        (down, across), (top, left) = ctx.stride, ctx.padding
        for row, column in product(*map(range, kernel)):
            reached = of_padded[:, row : row + down * height : down, column : column + across * width : across]
            reached += of_windows[:, :, :, row, column]
        _, rows, columns, _ = ctx.padded
        of_images = of_padded[:, top : rows - top, left : columns - left].permute(0, 3, 1, 2)
        return of_images.to(gradient.dtype), of_weight, None, None


def _as_matrix(weight: Tensor) -> Tensor:
    """Weights [d, c, k, l] -> [d, k · l · c]."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
