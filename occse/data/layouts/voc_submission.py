"""The archive that the PASCAL VOC evaluation server takes."""

import gzip
import tarfile
from collections.abc import Iterable
from pathlib import Path

# The devkit's VOCopts.seg.clsrespath: competition 6 (any training data), test set, classes.
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def write_submission(path: Path, *, labels: Path, names: Iterable[str]) -> None:
    """Pack the label maps `labels`/name.png of `names` as a .tgz; the same maps give the same
    bytes.

    Raises:
        FileNotFoundError: a label map is missing.
    """
    # The gzip header's time and the entries' owners and times would differ from run to run.
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
