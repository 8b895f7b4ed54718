"""Weight files that a user brings as the start of a stage: by name, known by content, loaded into
the network.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from occse.__main__ import main
from occse.artifacts.execute import execute
from occse.artifacts.manifest import artifact_folder
from occse.networks.affinity import AffinityNet
from occse.networks.backbones import build_backbone
from occse.networks.classifier import Classifier, load_classifier
from occse.networks.deeplab import DeepLab
from occse.pipeline import Node, Pipeline, check_files, override, plan
from occse.stage import Machine
from occse.weights.files import digest
from occse.weights.load import load_into

DIGEST = "sha256:" + "ab" * 32


def ones_like(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: torch.ones_like(value) for name, value in model.state_dict().items()}


def official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names as in the official files: the backbone's without a prefix, the head's by theirs, no
    counters.
    """
    names = {"head.weight": "fc8.weight"}
    return {
        names.get(name, name.removeprefix("backbone.").replace("head.f", "f")): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier and an AffinityNet of the tiny backbone under official names, all values 1."""
    root = tmp_path / "weights"
    root.mkdir()
    torch.save(official(ones_like(Classifier("tiny", 5))), root / "cls.pth")
    torch.save(official(ones_like(AffinityNet("tiny"))), root / "aff.pth")
    return root


def are_ones(tensors: dict[str, Tensor], part: str) -> bool:
    found = [
        value
        for name, value in tensors.items()
        if name.startswith(part) and not name.endswith("num_batches_tracked")
    ]
    return bool(found) and all(bool((value == 1).all()) for value in found)


def test_a_classifier_takes_backbone_and_head(folder: Path) -> None:
    model = Classifier("tiny", 5)
    load_into(model, folder / "cls.pth", whole=True)
    assert are_ones(model.state_dict(), "backbone.")
    assert are_ones(model.state_dict(), "head.")


def test_a_head_of_other_classes_is_left_alone_or_refused(folder: Path) -> None:
    model = Classifier("tiny", 7)
    before = model.head.weight.clone()
    load_into(model, folder / "cls.pth", whole=False)
    assert are_ones(model.state_dict(), "backbone.")
    assert torch.equal(model.head.weight, before)
    with pytest.raises(
        ValueError,
        match=r"head of Classifier: .*fc8.weight \(5, 64, 1, 1\) instead of \(7, 64, 1, 1\)",
    ):
        load_into(model, folder / "cls.pth", whole=True)


def test_networks_with_other_heads_take_the_backbone(folder: Path) -> None:
    affinity, deeplab = AffinityNet("tiny"), DeepLab("tiny", 5, width=16, dilation=2)
    load_into(affinity, folder / "cls.pth", whole=False)
    load_into(deeplab, folder / "cls.pth", whole=False)
    for model in (affinity, deeplab):
        assert are_ones(model.state_dict(), "backbone.")
        assert not are_ones(model.state_dict(), "head.")
    load_into(affinity, folder / "aff.pth", whole=True)
    assert are_ones(affinity.state_dict(), "head.")


def test_another_backbone_is_refused_with_both_sides_and_nothing_is_loaded(
    folder: Path, tmp_path: Path
) -> None:
    tensors = official(ones_like(Classifier("tiny", 5)))
    del tensors["layer1.bn1.bias"]
    torch.save(tensors | {"layer1.bn9.bias": torch.ones(3)}, tmp_path / "x.pth")
    model = Classifier("tiny", 5)
    with pytest.raises(
        ValueError,
        match=r"backbone of Classifier: missing .*layer1\.bn1\.bias.*left over .*layer1\.bn9",
    ):
        load_into(model, tmp_path / "x.pth", whole=False)
    assert not are_ones(model.state_dict(), "backbone.")


def test_torchvision_s_file_fills_our_resnet(tmp_path: Path) -> None:
    tensors = {
        name.removeprefix("resnet."): value
        for name, value in ones_like(build_backbone("resnet50")).items()
    }
    torch.save(
        {**tensors, "fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)},
        tmp_path / "r.pth",
    )
    model = Classifier("resnet50", 5)
    load_into(model, tmp_path / "r.pth", whole=False)
    assert are_ones(model.state_dict(), "backbone.")


def with_init(pipeline: Pipeline, init: str, folder: Path | None, **more: Any) -> dict[str, Node]:
    changes = {"oc.init": init} | {key.replace("__", "."): value for key, value in more.items()}
    return plan(override(pipeline, changes).resolve(None, folder))


def test_the_content_is_the_identity_and_the_name_and_the_folder_are_not(
    small_pipeline: Pipeline, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "cls.pth").rename(tmp_path / "other" / "renamed.pt")
    one = with_init(small_pipeline, "cls.pth", folder)
    assert (
        one["oc"].fingerprint
        == with_init(small_pipeline, "renamed.pt", tmp_path / "other")["oc"].fingerprint
    )
    spelt = "sha256:" + digest(folder / "cls.pth")
    assert one["oc"].fingerprint == with_init(small_pipeline, spelt, None)["oc"].fingerprint
    assert one["oc"].stage.config()["init"] == spelt
    assert str(folder) not in str(one)
    (folder / "cls.pth").write_bytes((folder / "cls.pth").read_bytes() + b"x")
    assert one["oc"].fingerprint != with_init(small_pipeline, "cls.pth", folder)["oc"].fingerprint


@pytest.mark.parametrize("field", ["oc", "cgnet", "affinity", "deeplab"])
def test_every_stage_starts_from_the_file(
    field: str, small_pipeline: Pipeline, own_store: Path, folder: Path
) -> None:
    # a learning rate that moves no weight: what comes out is what went in
    changes = {
        f"{field}.init": "cls.pth",
        f"{field}.lr": 1e-30,
        f"{field}.freeze_bn": True,
        f"{field}.weight_decay": 0,
    }
    nodes = plan(override(small_pipeline, changes).resolve(None, folder))
    execute(nodes[field], root=own_store, machine=Machine(weights=folder))
    tensors = load_file(artifact_folder(own_store, nodes[field]) / "model.safetensors")
    assert are_ones(tensors, "backbone.")
    assert are_ones(tensors, "head.") == (field in ("oc", "cgnet"))


def test_without_epochs_the_network_of_the_file_is_the_artifact(
    small_pipeline: Pipeline, own_store: Path, folder: Path
) -> None:
    changes = {"oc.epochs": 0, "affinity.epochs": 0, "affinity.init": "aff.pth"}
    nodes = with_init(
        small_pipeline,
        "cls.pth",
        folder,
        **{key.replace(".", "__"): value for key, value in changes.items()},
    )
    assert nodes["oc"].stage.config().keys() == {"backbone", "init", "epochs"}
    assert nodes["affinity"].stage.config().keys() == {"network", "backbone", "init", "epochs"}
    assert nodes["affinity"].inputs == {}
    assert "crf_low" not in nodes
    for field in ("oc", "affinity"):
        manifest = execute(nodes[field], root=own_store, machine=Machine(weights=folder))
        assert manifest.metrics == {}
        tensors = load_file(artifact_folder(own_store, nodes[field]) / "model.safetensors")
        assert are_ones(tensors, "backbone.")
        assert are_ones(tensors, "head.")
    model = load_classifier(artifact_folder(own_store, nodes["oc"]) / "model.safetensors")
    assert model.architecture == {"backbone": "tiny", "num_classes": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"oc.init": "imagnet"},
            r"oc\.init: expected one of pretrain, imagenet, random, or a file .*, got 'imagnet'",
        ),
        ({"oc.init": "sha256:123"}, "64 hex digits, got 'sha256:123'"),
        ({"oc.init": "../cls.pth"}, r"by its name .*, got '\.\./cls\.pth'"),
        ({"oc.init": "oc"}, "expected one of pretrain, imagenet, random"),
        (
            {"oc.epochs": 0},
            "epochs is 0, which keeps the weights of a file, but init names no file",
        ),
        (
            {"cgnet.epochs": 0, "cgnet.init": DIGEST},
            "cgnet.epochs: Input should be greater than or equal to 1",
        ),
    ],
)
def test_a_bad_init_is_refused_with_what_is_allowed(
    changes: dict[str, Any], message: str, small_pipeline: Pipeline
) -> None:
    with pytest.raises(ValueError, match=message):
        override(small_pipeline, changes)


def test_a_missing_or_damaged_file_is_refused_before_anything_runs(
    small_pipeline: Pipeline, folder: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"init is 'no\.pth', but there is no such file in .*weights"
    ):
        with_init(small_pipeline, "no.pth", folder)
    named = with_init(small_pipeline, "cls.pth", None)
    with pytest.raises(
        ValueError, match=r"oc\.init: 'cls\.pth' is a file, but its folder is not given"
    ):
        check_files(named.values(), None)
    with pytest.raises(
        ValueError,
        match=r"oc\.init: no file in .* has the SHA-256 (ab){32}; looked at aff\.pth, cls\.pth",
    ):
        check_files(with_init(small_pipeline, DIGEST, folder).values(), folder)
    whole = (folder / "cls.pth").read_bytes()
    (folder / "cls.pth").write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"oc\.init: .*cls\.pth is damaged"):
        check_files(with_init(small_pipeline, "cls.pth", folder).values(), folder)


def test_the_command_line_takes_the_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["data.num_train=4", "data.num_scored=2", "data.num_val=2", "data.num_object_centric=2"]
    chosen = [
        part for knob in (*small, "oc.epochs=0", "oc.init=cls.pth") for part in ("--set", knob)
    ]
    command = [
        "run",
        "--profile",
        "embedded",
        *chosen,
        "--targets",
        "oc",
        "--store",
        str(tmp_path / "store"),
    ]
    assert main([*command, "--weights", str(folder)]) == 0
    assert main(command) == 2
    assert "oc.init: 'cls.pth' is a file, but its folder is not given" in capsys.readouterr().err
