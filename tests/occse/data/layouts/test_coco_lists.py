"""Lists of image ids, and names of categories, in MS COCO's layout."""

from pathlib import Path

import pytest
import test_coco
from test_coco import CATEGORIES, TRAIN, VAL, instances, train, val, write

from occse.data.layouts.coco import read_coco
from occse.stages.data import Coco

root = pytest.fixture(test_coco.root.__wrapped__, name="root")


@pytest.mark.parametrize("lines", ["25\n7\n", f"{train(25)[0]}\n{train(7)[0]}.jpg\n", "0025\n7"])
def test_lists_of_ids_choose_the_images(root: Path, lines: str) -> None:
    (root / "voc_like").mkdir()
    (root / "voc_like" / "train.txt").write_text(lines)
    stage = Coco(train_list="voc_like/train.txt")
    assert stage.read(root).splits["train_aug"] == train(7, 25)
    assert stage.read(root).splits["val"] == val(42)
    for bad, message in (
        ("7\n8\n", r"train\.txt:2: '8' is not an image of the instances file"),
        ("7\n07\n", r"train\.txt:2: 07 is listed twice, first on line 1"),
        ("\n", r"train\.txt lists no image"),
    ):
        (root / "voc_like" / "train.txt").write_text(bad)
        with pytest.raises(ValueError, match=message):
            stage.read(root)
    with pytest.raises(ValueError, match="String should match pattern"):
        Coco(val_list="../val.txt")


def test_control_characters_in_names_of_categories_are_refused(root: Path) -> None:
    for split, objects in (("train", TRAIN), ("val", VAL)):
        content = instances(f"{split}2014", objects)
        named = [
            {"id": category["id"], "name": category["name"].replace("person", "per\x1b[31mson")}
            for category in CATEGORIES
        ]
        write(root, split, content | {"categories": named})
    with pytest.raises(ValueError, match=r"a category of the name 'per\\x1b\[31mson'"):
        read_coco(root)
