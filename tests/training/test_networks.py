"""The networks that a recipe can name."""

from __future__ import annotations

import pytest
import torch
from factories.images import unreachable

from benchmark.errors import UserError
from benchmark.training import networks


def test_a_split_resnet_computes_what_torchvision_computes() -> None:
    from torchvision.models import resnet18

    ours = networks.build("resnet18", (3, 64, 64), 1000, pretrained=False, stem="standard").eval()
    theirs = resnet18().eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))
    assert ours.features(images).shape == (2, 512)


def test_the_small_stem_keeps_resolution_and_resnet34_is_deeper() -> None:
    small = networks.build("resnet18", (3, 64, 64), 2, pretrained=False, stem="small")
    maps = small.features[:4](torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, 64, 32, 32)
    deeper = networks.build("resnet34", (3, 64, 64), 2, pretrained=False, stem="standard")
    assert sum(each.numel() for each in deeper.parameters()) > 21_000_000
    with pytest.raises(UserError, match="did you mean 'small'"):
        networks.build("resnet18", (3, 64, 64), 2, pretrained=False, stem="smal")
    with pytest.raises(UserError, match="standard stem"):
        networks.build("resnet18", (3, 64, 64), 2, pretrained=True, stem="small")


def test_pretrained_weights_are_taken_or_their_absence_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    networks.imagenet_weights.cache_clear()
    with pytest.raises(UserError, match=r"weights of resnet18 cannot be had .*--set pretrained=false"):
        networks.build("resnet18", (3, 224, 224), 2, pretrained=True, stem="standard")
    weights = models.resnet18().state_dict()
    monkeypatch.setattr(networks, "imagenet_weights", lambda architecture: weights)
    network = networks.build("resnet18", (3, 224, 224), 2, pretrained=True, stem="standard")
    assert torch.equal(network.features[0].weight, weights["conv1.weight"])
    assert network.classifier.out_features == 2


def test_a_gpu_computes_convolutions_alone_in_bfloat16() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    network = networks.build("resnet18", (3, 32, 32), 2, pretrained=False, stem="standard")
    plain = networks.build("mlp", (3, 4, 4), 2)
    assert networks.precision(network, gpu) is torch.bfloat16
    assert {networks.precision(network, cpu), networks.precision(plain, gpu)} == {torch.float32}
