from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import networks
from benchmark.training.convolutions import MOST, speed_up


def gradients(module: nn.Module, images: Tensor) -> list[Tensor]:
    images = images.clone().requires_grad_()
    output = module(images)
    output.pow(3).sum().backward()
    return [output.detach(), images.grad, *(each.grad for each in module.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("rows", [2, MOST + 3])
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 1), (1, 2, 0), ((3, 1), (2, 1), (1, 0))])
def test_gradients_are_those_of_pytorch(rows: int, shape: tuple[int, int, int]) -> None:
    kernel, stride, padding = shape
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, kernel, stride, padding, bias=False).double()
    fast = deepcopy(plain)
    speed_up(fast)
    images = torch.randn(4, 5, rows, rows + 1, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    for expected, found in zip(gradients(plain, images), gradients(fast, images), strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_few_pixels_take_a_product_and_many_do_not() -> None:
    network = networks.build("resnet18", (3, 64, 64), 2)
    speed_up(network)
    seen: list[str] = []
    output = network.features(torch.zeros(2, 3, 64, 64))
    nodes, found = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in found:
            found.add(node)
            seen.append(node.name())
            nodes += [each for each, _ in node.next_functions]
    # Of 20 convolutions the first ten have 32, 16 and 8 rows; 4 and 2 rows each have five.
    assert sum("_Convolution" in name for name in seen) == 10
    assert seen.count("ConvolutionBackward0") == 10


def test_other_convolutions_are_left_alone() -> None:
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    others = [grouped, nn.Conv2d(4, 4, 3, padding="same", bias=False), nn.Conv2d(4, 4, 3, dilation=2, bias=False)]
    others += [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", bias=False)]
    module = nn.Sequential(*others)
    speed_up(module)
    assert not any("forward" in vars(each) for each in others)
