"""Convolutions over few pixels, in bf16 on a processor: the gradient of their weights as one matrix product.

oneDNN's own takes images one at a time, each of less than its matrix unit is made for: in ResNet-18 at 64 pixels, three
layers of 2 × 2 pixels take a third of a training step (docs/speed.md).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 4  # rows of output up to which a matrix product is faster


def speed_up(module: nn.Module, precision: torch.dtype) -> None:
    """Let the convolutions of a module that compute in that precision take their gradients so, where it is faster."""
    for each in module.modules():
        if isinstance(each, nn.Conv2d) and _is_plain(each):
            each.forward = _convolving(each, precision)  # type: ignore[method-assign]


def _is_plain(layer: nn.Conv2d) -> bool:
    zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return zeros and layer.groups == 1 and layer.dilation == (1, 1) and layer.bias is None


def _convolving(layer: nn.Conv2d, precision: torch.dtype) -> Any:
    plain = layer.forward

    def convolved(images: Tensor) -> Tensor:
        rows = (images.shape[2] + 2 * layer.padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1  # type: ignore[operator]
        if rows > MOST:
            return plain(images)
        return _Convolution.apply(images.to(precision), layer.weight.to(precision), layer.stride, layer.padding)

    return convolved


class _Convolution(torch.autograd.Function):
    """Images [m, c, h, w], weights [d, c, k, l] -> [m, d, h', w']."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = torch.ops.aten.convolution_backward(
                gradient, images, weight, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        (d, c, *kernel), (down, across), (top, left) = weight.shape, ctx.stride, ctx.padding
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
        windows = padded.unfold(1, kernel[0], down).unfold(2, kernel[1], across)  # [m, h', w', c, k, l]
        flat = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel[0] * kernel[1] * c)
        product = gradient.permute(0, 2, 3, 1).reshape(-1, d).t() @ flat
        return of_images, product.view(d, *kernel, c).permute(0, 3, 1, 2), None, None
