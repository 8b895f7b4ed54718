"""The archive of label maps that the PASCAL VOC evaluation server accepts."""

import gzip
import tarfile
from collections.abc import Iterable
from pathlib import Path

# The devkit's VOCopts.seg.clsrespath: competition 6 (any training data), test set, classes.
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def write_submission(path: Path, *, labels: Path, names: Iterable[str]) -> None:
    """Pack the label maps `labels`/NAME.png of `names` as a .tgz.

    The same maps give the same bytes.

    Raises:
        FileNotFoundError: a label map is missing.
    """
    # The gzip header has no time, and the entries have no owners and times: they would differ from
    # run to run.
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(names):
            source = labels / f"{name}.png"
            entry = tarfile.TarInfo(f"{FOLDER}/{name}.png")
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                archive.addfile(entry, content)
