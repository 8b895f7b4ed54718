"""Bytes per image that one trial leaves at the size of VOC's images, through the real stages.

The images are those of the embedded data set, enlarged to 500 x 375, with 2.3 classes each, where
VOC has 1.5. The networks are tiny, at stride 4 and hardly trained: their maps are rougher than
those of a good network at stride 8. Both make the sizes rather too large than too small.

Run: python tests/benchmarks/bench_artifact_size.py [IMAGES]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from occse.artifacts.execute import execute
from occse.data.dataset import Dataset, load_dataset
from occse.data.layouts.voc import write_label_map
from occse.pipeline import Node, Pipeline, override, plan, profile
from occse.stage import Machine

SIZE = (500, 375)
VOC = {"train_aug": 10_582, "val": 1_449}
GROWS = {"cam": "train_aug", "crf": "train_aug", "crf_low": "train_aug", "crf_high": "train_aug"}
GROWS |= {"pseudo": "train_aug", "seg": "val"}
SMALL = {
    "*.init": "random",
    "*.epochs": 1,
    "*.batch_size": 4,
    "cam.scales": [1.0],
    "seg.scales": [1.0],
}
SMALL |= {"cam.reduction": 4}  # the default, which the profile of the small images changes


def write_folder(root: Path, small: Dataset) -> None:
    """The data set as a user's own folder of large images."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    lines = ["image,split,labels"]
    for split, listed in (("train", "train_aug"), ("val", "val")):
        for name in small.splits[listed]:
            Image.fromarray(small.image(name)).resize(SIZE, Image.Resampling.BICUBIC).save(
                root / "images" / f"{name}.jpg", quality=90
            )
            mask = Image.fromarray(small.mask(name)).resize(SIZE, Image.Resampling.NEAREST)
            write_label_map(root / "masks" / f"{name}.png", np.asarray(mask))
            lines.append(
                f"{name},{split},{';'.join(small.classes[index] for index in small.labels[name])}"
            )
    (root / "classes.txt").write_text("\n".join(small.classes) + "\n")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    num_images = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        store, root = Path(temporary, "store"), Path(temporary, "voc")
        num = {
            "num_train": num_images,
            "num_scored": num_images,
            "num_val": num_images,
            "num_object_centric": 1,
        }
        shapes = override(
            Pipeline(),
            {"data.kind": "shapes"} | {f"data.{key}": value for key, value in num.items()},
        )
        drawn = plan(shapes, targets=["data"])["data"]
        execute(drawn, root=store)
        write_folder(root, load_dataset(store / "Shapes" / drawn.fingerprint, data_root=None))
        small = {
            key: value for key, value in profile("embedded").items() if not key.startswith("data.")
        } | SMALL
        nodes = plan(override(Pipeline(), {"data.kind": "folder"} | small).resolve(root))
        report(nodes, store, root, num_images)


def report(nodes: dict[str, Node], store: Path, root: Path, num_images: int) -> None:
    total = 0.0
    for field, node in nodes.items():
        made = execute(node, root=store, machine=Machine(data_root=root))
        if field in GROWS:
            each = made.bytes / num_images
            total += each * VOC[GROWS[field]]
            print(
                f"{field:<9} {each / 1e3:7.1f} kB per image  "
                f"{each * VOC[GROWS[field]] / 1e6:7.0f} MB",
                flush=True,
            )
    print(
        f"one trial at the size of VOC: {total / 1e9:.2f} GB of arrays and maps, "
        f"beside its networks"
    )


if __name__ == "__main__":
    main()
