"""`python -m occse weights`: what a file is, and both sides of what it does not fit."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from mxnet_writer import write_mxnet
from torch import Tensor
from torchvision.models import get_model

from occse.__main__ import main
from occse.networks.affinity import build_affinity_net, save_affinity_net
from occse.networks.backbones import build_backbone
from occse.networks.classifier import Classifier, save_classifier
from occse.networks.names import BackboneName
from occse.weights.describe import describe
from occse.weights.files import digest
from occse.weights.load import match


def shown(path: Path) -> str:
    return "\n".join(describe(path).lines())


def test_our_classifier_is_told_with_its_classes(tmp_path: Path) -> None:
    save_classifier(Classifier("tiny", 5), tmp_path / "model.safetensors")
    text = shown(tmp_path / "model.safetensors")
    assert "format   safetensors" in text
    assert digest(tmp_path / "model.safetensors") in text
    assert digest(tmp_path / "model.safetensors", "md5") in text
    assert "the head of a classifier of 5 classes" in text
    assert "fits     tiny: all" in text
    assert "torchvision" not in text, "nothing else fits"
    network = Classifier("tiny", 5)
    assert f" {sum(value.numel() for value in network.parameters()):,} parameters" in text
    assert f"holds    {len(network.state_dict())} tensors" in text


def test_our_affinity_nets_are_told(tmp_path: Path) -> None:
    for network, head in (("psa", "an AffinityNet"), ("irn", "a class boundary network")):
        save_affinity_net(build_affinity_net(network, "tiny"), tmp_path / "model.safetensors")
        assert f"the head of {head}" in shown(tmp_path / "model.safetensors")
        assert "fits     tiny" in shown(tmp_path / "model.safetensors")


def alone(name: str) -> dict[str, Tensor]:
    """The tensors of a backbone under its own names, without the counters that old PyTorch did not
    write.
    """
    tensors = build_backbone(name).state_dict()
    return {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", get_args(BackboneName))
@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"fc8.weight": (20, 4096, 1, 1)}, "the head of a classifier of 20 classes"),
        (
            {
                "f8_3.weight": (64, 512, 1, 1),
                "f8_4.weight": (1,),
                "f8_5.weight": (1,),
                "f9.weight": (1,),
            },
            "the head of an AffinityNet",
        ),
        ({"f8_3.weight": (64, 512, 1, 1)}, "another head"),
        ({}, "no head of ours"),
    ],
)
def test_a_backbone_in_someone_else_s_file_is_told(
    name: str, heads: dict[str, tuple[int, ...]], message: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        network = alone(name)
    saved = {key: torch.zeros(value.shape, dtype=torch.uint8) for key, value in network.items()}
    saved |= {key: torch.zeros(shape) for key, shape in heads.items()}
    torch.save(saved, tmp_path / "x.pth")
    text = shown(tmp_path / "x.pth")
    assert message in text
    assert f"fits     {name}: all" in text
    assert "missing" not in text


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "vgg16", "convnext_tiny"])
def test_torchvision_s_networks_are_told_with_what_is_left_over(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        offered = get_model(name).state_dict()
    saved = {key: torch.zeros(value.shape, dtype=torch.uint8) for key, value in offered.items()}
    torch.save(saved, tmp_path / "x.pth")
    complete = {
        key: found
        for key, found in describe(tmp_path / "x.pth").fits.items()
        if found.fills("backbone.")
    }
    assert {
        key.rsplit(" ", 1)[-1].removesuffix("_s16").removesuffix("_irn") for key in complete
    } == {name}
    for key, found in complete.items():  # ours have no layer for the classes of ImageNet
        assert bool(found.left_over) == (key in get_args(BackboneName))
        assert all(left.startswith(("fc.", "classifier.")) for left in found.left_over)


def test_both_sides_are_listed_where_nothing_fits(tmp_path: Path) -> None:
    tensors = alone("tiny")
    del tensors["stem.0.weight"]
    tensors["layer1.conv1.weight"] = torch.zeros(2, 2)
    tensors["surplus"] = torch.zeros(7)
    torch.save(tensors, tmp_path / "x.pth")
    text = shown(tmp_path / "x.pth")
    assert "fits     none of tiny" in text
    assert f"nearest  tiny: {len(tensors) - 2} tensors agree" in text
    assert "missing in the file (1): backbone.stem.0.weight (16, 3, 3, 3)" in text
    assert "left over in the file (1): surplus (7,)" in text
    assert "of another shape (1): layer1.conv1.weight (2, 2) instead of (24, 16, 3, 3)" in text


def test_long_lists_are_cut_and_counted() -> None:
    found = match({}, {f"extra{number}": (1,) for number in range(25)})
    (line,) = found.differences()
    assert line.startswith("left over in the file (25): extra0 (1,), ")
    assert line.endswith("extra19 (1,) and 5 more")


def test_the_command_ends_with_2_for_damage_and_describes_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.params"
    save_classifier(Classifier("tiny", 5), good)
    write_mxnet(bad, {"arg:conv1a_weight": np.ones((64, 3, 3, 3), np.float32)})
    bad.write_bytes(bad.read_bytes()[:-100])
    assert main(["weights", str(good)]) == 0
    assert "intact   it can be read to its end" in capsys.readouterr().out
    assert main(["weights", str(bad), str(good)]) == 1
    captured = capsys.readouterr()
    assert "damaged  " in captured.out
    assert "is truncated" in captured.out
    assert "fits     tiny" in captured.out
    assert captured.err == f"occse: damaged: {bad}\n"
    assert main(["weights", str(tmp_path / "absent.pth")]) == 2
    assert "absent.pth" in capsys.readouterr().err


def test_a_larger_network_is_no_fit_although_it_has_all_that_is_asked() -> None:
    wanted = {f"backbone.resnet.layer3.{block}.weight": (2,) for block in range(6)}
    offered = {f"layer3.{block}.weight": (2,) for block in range(23)} | {"fc.weight": (3,)}
    found = match(wanted, offered)
    assert not found.missing
    assert found.deeper == tuple(f"layer3.{block}.weight" for block in range(6, 23))
    assert not found.fills("backbone.")
    smaller = {name: shape for name, shape in offered.items() if name not in found.deeper}
    assert match(wanted, smaller).fills("backbone.")


def test_a_part_of_the_imagenet_head_may_be_kept() -> None:
    wanted = {"backbone.net.features.0.weight": (2,), "backbone.net.classifier.0.weight": (2,)}
    found = match(
        wanted,
        {"features.0.weight": (2,), "classifier.0.weight": (2,), "classifier.2.weight": (9,)},
    )
    assert found.fills("backbone.")
    assert found.left_over == {"classifier.2.weight": (9,)}
