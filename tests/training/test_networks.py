"""The networks that a run can name: what they compute, what planning knows of them, and what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from factories.images import QUICKLY, quickly, unreachable, write_learnable_folder
from factories.noise import noise_dataset, noise_settings
from factories.records import make_run
from torchvision import models

import networks
from benchmark import run
from benchmark.errors import UserError
from benchmark.plan import code
from benchmark.store.store import Store
from benchmark.training.networks import _check as tried
from benchmark.training.networks import check, check_weights, digest, of_run, precision
from benchmark.training.training import Training
from methods.base import Network
from networks import of_torchvision

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
# One of each family, and whatever has limits of its own.
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_0", "squeezenet1_1", "swin_t", "vgg11",
]  # fmt: skip


def settings(network: str, **changes: Any) -> dict[str, Any]:
    return {"network": network, "batch_size": 8, **changes}


# torchvision


def test_every_classifier_of_torchvision_is_known_without_importing_it() -> None:
    assert networks.library("torchvision") == set(models.list_models(module=models))
    for name in networks.library("torchvision"):
        standard = "IMAGENET1K_V1" in models.get_model_weights(name).__members__
        assert networks.needs(name).weights == standard, name
    code = (
        "import sys; from benchmark.run import main; "
        "assert main(['--tasks', 'cmnist_99', '--set', 'network=resnet50', '--status', '--results', 'nowhere']) == 0; "
        "assert not {'torch', 'torchvision', 'timm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(networks.__file__).parents[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_network_needs_is_the_least_that_it_takes(name: str) -> None:
    needs = networks.needs(name)
    check(settings(name), (3, needs.smallest, needs.smallest), 3)
    alone = max(needs.smallest, needs.alone)
    check(settings(name, batch_size=1), (3, alone, alone), 3)
    for size, changes in ((needs.smallest - 1, {}), (needs.alone - 1, {"batch_size": 1})):
        if size >= (needs.smallest if changes else 1):
            with pytest.raises(UserError, match=f"{name} .*{size} pixels"):
                check(settings(name, **changes), (3, size, size), 3)


@pytest.mark.parametrize(("name", "size", "other"), [("vit_b_32", 64, 62), ("maxvit_t", 224, 192)])
def test_networks_of_patches_are_built_for_the_size_and_refuse_others(name: str, size: int, other: int) -> None:
    check(settings(name), (3, size, size), 3)
    assert size % networks.needs(name).multiple == 0
    with pytest.raises(UserError, match=name):
        check(settings(name), (3, other, other), 3)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg11", "densenet121", "swin_t"])
def test_a_split_network_computes_what_torchvision_computes(name: str) -> None:
    torch.manual_seed(0)
    theirs = models.get_model(name).eval()
    ours = networks.build(name, (3, 64, 64), 1000).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
        features = ours.features(images)
    assert features.shape == (2, ours.classifier.in_features)


def test_networks_are_trained_without_dropout_and_stochastic_depth() -> None:
    for name in ("convnext_tiny", "vgg11", "mobilenet_v3_small"):
        network = networks.build(name, (3, 32, 32), 2).train()
        images = torch.randn(4, 3, 32, 32)
        before = torch.get_rng_state()
        network(images)
        assert torch.equal(torch.get_rng_state(), before), name


def test_the_small_stem_keeps_resolution_and_resnet34_is_deeper() -> None:
    small = networks.build("resnet18", (3, 64, 64), 2, pretrained=False, stem="small")
    maps = small.features[:4](torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, 64, 32, 32)
    deeper = networks.build("resnet34", (3, 64, 64), 2, pretrained=False, stem="standard")
    assert sum(each.numel() for each in deeper.parameters()) > 21_000_000


def test_pretrained_weights_are_taken_or_their_absence_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings("resnet18", pretrained=True)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"weights of resnet18 cannot be had .*--set pretrained=false"):
        check(chosen, (3, 224, 224), 2)
    weights = models.resnet18().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *given, **more: weights)
    check(chosen, (3, 224, 224), 2)
    network, again = (of_run(chosen, (3, 224, 224), 2) for _ in range(2))
    assert torch.equal(network.features[0].weight, weights["conv1.weight"])
    assert network.classifier.out_features == 2
    assert digest(network) == digest(again) != digest(of_run(settings("resnet18"), (3, 224, 224), 2))


def test_a_pretrained_transformer_is_adapted_to_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = models.vit_b_32().state_dict()
    monkeypatch.setattr(of_torchvision, "imagenet_weights", lambda name: dict(weights))
    network = of_run(settings("vit_b_32", pretrained=True), (3, 64, 64), 2)
    embedding = network.features.encoder.pos_embedding
    assert embedding.shape == (1, 1 + 4, 768)
    assert torch.equal(embedding[:, 0], weights["encoder.pos_embedding"][:, 0])
    assert torch.equal(network.features.conv_proj.weight, weights["conv_proj.weight"])


@pytest.mark.parametrize(("device", "has"), [("cuda", {}), ("cpu", {"amx_bf16": True}), ("cpu", {"avx512_bf16": True})])
def test_what_gains_by_it_computes_convolutions_alone_in_bfloat16(
    device: str, has: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    fast = torch.device(device)
    network = networks.build("resnet18", (3, 32, 32), 2)
    plain = networks.build("mlp", (3, 4, 4), 2)
    assert precision(network, fast) is torch.bfloat16
    assert {precision(plain, fast), precision(network, fast, "float32")} == {torch.float32}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "bf16": True})
    assert precision(network, torch.device("cpu")) is torch.float32, "not measured on Arm"


@pytest.mark.parametrize(("has", "refused"), [({}, True), ({"avx512_bf16": True}, False), ({"bf16": True}, False)])
def test_bf16_is_for_processors_that_have_it(
    has: dict[str, bool], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, **has})
    settings = noise_settings(precision="bf16")
    if refused:
        with pytest.raises(UserError, match="does not compute in bf16: add --set precision=float32"):
            Training(noise_dataset(), settings, 0)
        return
    training = Training(noise_dataset(), settings, 0)
    computed: list[torch.dtype] = []
    network = training.method.target
    assert isinstance(network, Network)
    network.features[0].register_forward_hook(lambda module, inputs, output: computed.append(output.dtype))
    assert network(torch.zeros(2, 3, 64, 64)).dtype is torch.float32, "losses see no less"
    assert computed == [torch.bfloat16]
    assert training.precision is torch.bfloat16


# timm


@needs_timm
def test_every_model_of_timm_is_known_without_importing_it() -> None:
    import timm

    assert networks.library("timm") == set(timm.list_models())


@needs_timm
@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_tiny_patch16_224", 64), ("resnet18", 28), ("mobilenetv3_small_100", 32), ("mixer_s16_224", 32)],
)
def test_models_of_timm_are_built_for_the_size(name: str, size: int) -> None:
    check(settings(f"timm/{name}"), (3, size, size), 3)


@needs_timm
def test_what_timm_cannot_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'timm/vit_tiny_patch16_224'"):
        make_run("dogs_cats", "vanilla", "network=timm/vit_tiny_patch16_22")
    with pytest.raises(UserError, match="a multiple of 16 pixels, and those of cmnist_99 have 28"):
        make_run("cmnist_99", "vanilla", "network=timm/vit_tiny_patch16_224")
    with pytest.raises(UserError, match="names weights"):
        make_run("dogs_cats", "vanilla", "network=timm/resnet18.a1_in1k")
    with pytest.raises(UserError, match="a multiple of 16 pixels, not 40"):
        check(settings("timm/mixer_s16_224"), (3, 40, 40), 2)
    with pytest.raises(UserError, match="timm has no weights of that name"):
        check_weights(settings("timm/vit_tiny_patch16_384.none", pretrained=True))
    monkeypatch.setattr("networks.of_timm.get_pretrained_cfg", lambda name: None)
    with pytest.raises(UserError, match="timm has no weights of xcit_nano"):
        check_weights(settings("timm/xcit_nano", pretrained=True))


@needs_timm
def test_weights_of_timm_that_are_not_here_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    chosen = settings("timm/resnet18", pretrained=True)
    with pytest.raises(UserError, match=r"The weights of timm/resnet18 are not on this machine"):
        check_weights(chosen)
    with pytest.raises(UserError, match=r"The weights of timm/resnet18 cannot be had .*no route"):
        check(chosen, (3, 64, 64), 2)


def test_timm_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "library", lambda package: frozenset())
    with pytest.raises(UserError, match=r"needs the package timm: pip install -e '\.\[timm\]'"):
        networks.needs("timm/resnet18")


# One's own

OWN = """
from torch import nn
from methods.base import Network
from networks import register

class Pooled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.filters = nn.Conv2d(3, width, 3)

    def forward(self, images):
        return self.filters(images).relu().mean((2, 3))

@register("own_pooled", smallest=3)
def own_pooled(image_shape, num_classes):
    return Network(Pooled(8), nn.Linear(8, num_classes))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of networks in a folder of one's own."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(folder)])
    monkeypatch.setattr(networks, "BUILDERS", dict(networks.BUILDERS))
    path = folder / "own_file.py"
    path.write_text(OWN)
    for kept in (code.of_network, tried):
        kept.cache_clear()
    yield path
    sys.modules.pop("networks.own_file", None)
    for kept in (code.of_network, tried):
        kept.cache_clear()


def test_one_file_adds_a_network_that_is_trained(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    command = ["--tasks", "colored_digits", "--methods", "vanilla", "--results", str(results)]
    assert run.main([*command, "--set", "network=own_pooled", "epochs=1"]) == 0
    (record,) = Store(results).everything()
    assert len(record.provenance.network_version) == 12
    assert not record.stale
    assert record.provenance.network_package == ""
    capsys.readouterr()
    own.write_text(OWN.replace("relu()", "tanh()"))
    code.of_network.cache_clear()
    assert f"version {record.provenance.network_version} of the network own_pooled" in record.stale
    own.write_text(OWN.replace("\n@register", "\n# The same.\n\n@register"))
    code.of_network.cache_clear()
    assert not record.stale, "comments change no number"


def test_the_example_of_the_manual_is_trained(own: Path, tmp_path: Path) -> None:
    manual = (Path(networks.__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    own.write_text(manual.partition("```python\n")[2].partition("```")[0])
    command = ["--tasks", "colored_digits", "--methods", "vanilla", "--set", "network=small_cnn", "epochs=1"]
    assert run.main([*command, "--results", str(tmp_path / "results")]) == 0
    assert len(list(Store(tmp_path / "results").everything())) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("smallest=3", "smallest=9", "needs images of at least 9 pixels, and those of colored_digits have 8"),
        ("smallest=3", "least=3", "registers no network in a way that can be read"),
        ("smallest=3", "smallest=1 + 2", "registers no network in a way that can be read"),
        ('"own_pooled"', "nn", "registers no network in a way that can be read"),
        ('"own_pooled", ', "", "a name that is taken or is none"),
        ("smallest=3", "smallest='3'", "registers no network in a way that can be read"),
        ('"own_pooled"', '"resnet18"', "a name that is taken"),
        ('"own_pooled"', '"mlp"', "rename yours"),
        ("import nn", "import nm", "own_file.py cannot be imported (ImportError"),
        ("class Pooled", "class", "registers no network in a way that can be read"),
        ("return Network(Pooled(8),", "return nn.Sequential(Pooled(8),", "it must be a methods.base.Network"),
        (
            "nn.Linear(8, num_classes)",
            "nn.Sequential(nn.Linear(8, num_classes))",
            "is a Sequential: make it one nn.Linear",
        ),
        (".mean((2, 3))", "", "must give a representation [m, d]"),
        ("nn.Linear(8", "nn.Linear(9", "The classifier of own_pooled does not take its features"),
        ("num_classes))", "7))", "must give logits [m, 10]"),
        (".relu()", ".relu() * images.std().item()", "does not take 2 images of 8 pixels"),
        ("nn.Conv2d(3, width, 3)", "nn.Conv2d(3, width, 3).dropout", "cannot be built for 10 classes"),
        (".relu()", ".relu().bernoulli()", "draws from a global generator (bernoulli)"),
        ("self.filters(images)", "nn.functional.dropout(self.filters(images))", "draws from a global generator"),
    ],
)
def test_what_is_wrong_with_a_network_of_ones_own_is_a_sentence(
    own: Path, tmp_path: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in OWN
    own.write_text(OWN.replace(old, new))
    command = ["--tasks", "colored_digits", "--methods", "vanilla", "--set", "network=own_pooled", "--dry-run"]
    assert run.main([*command, "--results", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# Through the command line


@pytest.mark.parametrize(
    "name", ["resnet50", pytest.param("timm/vit_tiny_patch16_224", marks=needs_timm), "own_pooled"]
)
def test_any_network_is_trained_on_images(own: Path, tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    command = ["--dataset", str(write_learnable_folder(tmp_path)), "--methods", "vanilla", "--results", str(results)]
    assert run.main([*command, *quickly(f"network={name}", "data.size=64", "crop_scale=0.5")]) == 0
    (record,) = Store(results).everything()
    assert record.settings["network"] == name
    assert record.phases[0].loss[0] > 0
    expected = {"resnet50": "torchvision ", "own_pooled": ""}.get(name, "timm ")
    assert record.provenance.network_package.startswith(expected)
    assert record.provenance.weights is None


def test_a_record_knows_the_weights_that_it_started_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_learnable_folder(tmp_path)
    found = []
    for number in (0, 0, 1):
        torch.manual_seed(number)
        weights = models.resnet18().state_dict()
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *given, each=weights, **_: each)
        results = tmp_path / f"results{len(found)}"
        command = ["--dataset", str(folder), "--methods", "vanilla", "--results", str(results)]
        assert run.main([*command, *QUICKLY, "pretrained=true"]) == 0
        (record,) = Store(results).everything()
        found.append(record.provenance.weights)
    assert found[0] == found[1] != found[2] is not None
