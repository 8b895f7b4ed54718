"""`cams`: class activation maps of another method, read from its files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from occse.data.file_digests import sha256_of_all
from occse.stage import Context, Stage

SUFFIX = ".npy"


class ReadCams(Stage):
    """CAMs of `train_aug` from a folder of NAME.npy, in the dictionaries of psa and OC-CSE or irn.

    `cam.source: cams` scores them and hands them on, so that the CRF, AffinityNet, the walk and
    DeepLab run on them as on the maps that are made here. Nothing in the files is unpickled.
    """

    display_name: ClassVar[str] = "CAMs of another method"
    may_need: ClassVar[tuple[str, ...]] = ("data",)

    source: str = Field(default="", pattern=r"^([\w.+-]+)?$", max_length=200)
    """Name of the folder of the `.npy` files, in the folder that --weights names."""
    digest: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """SHA-256 over the files, which is their identity; empty: any files in the folder `source`."""

    def needs(self) -> tuple[str, ...]:
        """The data, for image labels and sizes."""
        return ("data",)

    def config(self) -> dict[str, Any]:
        """Return the digest alone where it is known: the folder may have any name.

        The name is no `inactive` knob, because variants of a sweep are told apart by it.
        """
        config = super().config()
        if self.digest:
            del config["source"]
        return config

    def recorded(self) -> dict[str, Any]:
        """Return the name of the folder, too."""
        return super().config()

    def is_named(self) -> bool:
        """Tell if `source` names a folder, or `digest` its files."""
        return self.digest != "" or self.source not in ("", ".", "..")

    def resolved(self, weights: Path | None) -> "ReadCams":
        """Return this stage with the digest of its files, unless it has one or none is named.

        Raises:
            ValueError: there is no such folder.
        """
        if weights is None or not self.is_named() or self.digest:
            return self
        return self.model_copy(update={"digest": _digest(self._folder(weights))})

    def _folder(self, weights: Path | None) -> Path:
        """Return the folder of the files: the one that is named, or one with the digest."""
        if weights is None:
            raise ValueError(
                f"cams.source is {self.source!r}, but its folder is not given: give the folder "
                "that it is in as --weights, or in a sweep's file as weights"
            )
        named = weights / self.source
        is_folder = self.source not in ("", ".", "..") and named.is_dir()
        if not self.digest:
            if not is_folder:
                raise ValueError(
                    f"cams.source is {self.source!r}, but there is no such folder in {weights}"
                )
            return named
        folders = [named] if is_folder else []
        # The record of a trial has the digest alone, and the folder may have another name by now.
        folders += sorted(path for path in weights.iterdir() if path.is_dir() and path != named)
        for folder in folders:
            if _digest(folder) == self.digest:
                return folder
        looked_at = ", ".join(folder.name for folder in folders) or "none"
        raise ValueError(
            f"no folder in {weights} has CAMs with the digest {self.digest}, which cams.digest "
            f"expects; looked at {looked_at}"
        )

    def run(self, ctx: Context) -> dict[str, float]:
        """Check and store the maps.

        Raises:
            ValueError: a file is missing or damaged, or contradicts the image labels or the sizes.
        """
        # Imported here: knobs are read where there is no torch.
        import numpy as np

        from occse.data.array_archive import ArrayWriter
        from occse.data.dataset import load_dataset
        from occse.data.npy_dicts.outside_cams import read_cams
        from occse.data.score_archives import CAMS

        folder = self._folder(ctx.machine.weights)
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.machine.data_root)
        names = dataset.splits["train_aug"]
        with ArrayWriter(ctx.output / CAMS) as writer:
            for name in names:
                path = folder / f"{name}{SUFFIX}"
                cams, classes = read_cams(path, num_classes=len(dataset.classes))
                present = dataset.labels[name]
                if tuple(classes.tolist()) != present:
                    found_names = _text(classes.tolist(), dataset.classes)
                    raise ValueError(
                        f"{path} has maps of {found_names}; expected those of "
                        f"the image labels, {_text(present, dataset.classes)}"
                    )
                _check_shape(path, cams.shape[1:], dataset.size(name))
                writer.write(name, cam=cams.astype(np.float16), classes=classes.astype(np.int16))
        return {"images": len(names)}


def _text(classes: Sequence[int], names: Sequence[str]) -> str:
    return ", ".join(names[index] for index in classes)


def _check_shape(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise ValueError unless maps have the shape of their image, whatever their scale."""
    height, width = size
    # A scaled side is rounded to a whole number, so it may be off by one.
    if abs(found[0] * width - found[1] * height) > max(height, width):
        raise ValueError(
            f"{path} has maps of {found[0]} x {found[1]} (height x width); expected the shape of "
            f"the image, {height} x {width}, at any scale"
        )


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    # Sorted, as file systems list in any order; with names, as exchanged files are others.
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    for path, sha256 in zip(paths, sha256_of_all(paths), strict=True):
        digest.update(f"{path.name} {sha256}\n".encode())
    return digest.hexdigest()
