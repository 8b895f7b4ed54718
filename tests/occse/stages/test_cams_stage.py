"""CAMs of another method as a stage: exported maps come back, and other stages run on them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import SMALL

from occse.__main__ import main
from occse.artifacts.execute import execute
from occse.artifacts.manifest import artifact_folder
from occse.data.array_archive import ArrayReader
from occse.data.dataset import load_dataset
from occse.data.score_archives import CAMS, read_cam
from occse.pipeline import Node, Pipeline, override, plan
from occse.stage import Context, Machine


@pytest.fixture(scope="module")
def outside(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the CAMs of `small_store` in both formats."""
    folder = tmp_path_factory.mktemp("outside")
    options = ["--profile", "embedded", "--store", str(small_store)]
    for knob, value in SMALL.items():
        options += ["--set", f"{knob}={value}"]
    for form in ("psa", "irn"):
        command = ["export", "cam", *options, "--format", form, "--out", str(folder / form)]
        assert main(command) == 0
    return folder


def planned(pipeline: Pipeline, outside: Path, source: str) -> dict[str, Node]:
    changed = override(pipeline, {"cam.source": "cams", "cams.source": source})
    return plan(changed.resolve(None, outside))


@pytest.mark.parametrize("form", ["psa", "irn"])
def test_exported_cams_come_back_and_the_crf_runs_on_them(
    form: str, own_store: Path, small_pipeline: Pipeline, outside: Path
) -> None:
    nodes = planned(small_pipeline, outside, form)
    assert "cgnet" not in nodes
    machine = Machine(weights=outside)
    for field in ("data", "cams", "cam", "crf"):
        manifest = execute(nodes[field], root=own_store, machine=machine)
    assert 0 < manifest.metrics["miou"] < 1
    original = plan(small_pipeline)
    before = execute(original["cam"], root=own_store).metrics["miou"]
    after = execute(nodes["cam"], root=own_store).metrics["miou"]
    # The exported maps were stored at a quarter of the size.
    assert after == pytest.approx(before, abs=0.05)
    dataset = load_dataset(artifact_folder(own_store, nodes["data"]), data_root=None)
    name = dataset.splits["train_aug"][0]
    size = dataset.size(name)
    stored = ArrayReader(artifact_folder(own_store, original["cam"]) / CAMS)
    outer = ArrayReader(artifact_folder(own_store, nodes["cams"]) / CAMS)
    exported, classes = read_cam(stored, name, size)
    imported, same = read_cam(outer, name, size)
    assert same == classes
    np.testing.assert_allclose(imported, exported, atol=1e-3)


def test_cams_of_other_files_are_another_artifact(
    small_pipeline: Pipeline, outside: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "psa"
    shutil.copytree(outside / "psa", folder)
    before = planned(small_pipeline, tmp_path, "psa")
    assert before["cam"].fingerprint == planned(small_pipeline, outside, "psa")["cam"].fingerprint
    first = sorted(folder.glob("*.npy"))[0]
    first.write_bytes(first.read_bytes()[:-4] + b"\0\0\0.")
    assert planned(small_pipeline, tmp_path, "psa")["cam"].fingerprint != before["cam"].fingerprint
    with pytest.raises(ValueError, match=r"no folder in .* has CAMs with the digest .* at psa"):
        before["cams"].stage.run(
            Context(output=tmp_path, scratch=tmp_path, machine=Machine(weights=tmp_path))
        )


def test_cams_are_known_by_their_content_and_not_by_the_folders_name(
    small_pipeline: Pipeline, own_store: Path, outside: Path, tmp_path: Path
) -> None:
    shutil.copytree(outside / "psa", tmp_path / "seam")
    (tmp_path / "others").mkdir()
    original = planned(small_pipeline, outside, "psa")["cams"]
    renamed = planned(small_pipeline, tmp_path, "seam")["cams"]
    assert renamed.fingerprint == original.fingerprint
    assert renamed.stage.config().keys() == {"digest"}
    # Tables and gates tell variants apart by the name, which changes no fingerprint.
    assert renamed.stage.recorded() == {"source": "seam", **renamed.stage.config()}
    of_record = type(renamed.stage)(**renamed.stage.config())
    node = replace(renamed, stage=of_record)
    manifest = execute(node, root=own_store, machine=Machine(weights=tmp_path))
    assert manifest.fingerprint == original.fingerprint


def test_cams_that_contradict_labels_or_images_are_refused(
    small_pipeline: Pipeline, own_store: Path, outside: Path, tmp_path: Path
) -> None:
    nodes = planned(small_pipeline, outside, "psa")
    dataset = load_dataset(artifact_folder(own_store, nodes["data"]), data_root=None)
    name = dataset.splits["train_aug"][0]
    folder = tmp_path / "psa"
    folder.mkdir()
    present = dataset.labels[name]
    cam = np.zeros(dataset.size(name), np.float32)
    for maps, message in (
        ({}, rf"{name}\.npy cannot be read"),
        ({(present[0] + 1) % 5: cam, (present[0] + 2) % 5: cam}, "expected those of the image"),
        (dict.fromkeys(present, cam[:, :20]), "expected the shape of the image, 80 x 80"),
    ):
        if maps:
            np.save(folder / f"{name}.npy", np.array(maps, dtype=object))
        node = planned(small_pipeline, tmp_path, "psa")["cams"]
        with pytest.raises(ValueError, match=message):
            execute(node, root=own_store, machine=Machine(weights=tmp_path))


def test_cams_without_a_folder_say_how_to_name_one(
    small_pipeline: Pipeline, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"cam: source is cams, but cams\.source is ''"):
        plan(override(small_pipeline, {"cam.source": "cams"}))
    with pytest.raises(ValueError, match=r"'irn', but there is no such folder in"):
        planned(small_pipeline, tmp_path, "irn")
