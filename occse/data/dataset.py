"""A data set: images, image labels and masks by name; and its index in an artifact."""

import json
import struct
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32, UInt8
from PIL.Image import Image, Resampling, Transpose, fromarray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from occse.data.reading import parse_json

# A bound on the memory that a header can ask for: 100 megapixels take 0.3 GB as RGB. Cameras of
# today reach half of that.
MAX_PIXELS = 100_000_000
# The label of pixels that are neither trained on nor scored, in every layout of masks.
VOID = 255
# The file in a data stage's artifact.
INDEX = "index.json"
# The first bytes of PNG and JPEG files.
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
JPEG_HEAD = b"\xff\xd8\xff"
# The number of the orientation in EXIF data, and the transposition that each value asks for.
EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Suffixes of masks.
MASK_SUFFIXES = (".png", ".PNG")
# Orientations that exchange height and width.
TURNED = (5, 6, 7, 8)
# The exceptions that PIL's decoders raise on damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with image labels, some of them with masks.

    Attributes:
        root: the folder that all paths start from, by default in VOC layout.
        classes: names of the foreground classes; class index i is label i + 1 in a mask.
        splits: image names by split.
        labels: class indices that are present, ascending, by image name.
        files: paths below `root` of the images that are not JPEGImages/NAME.jpg, by image name.
        masks: the folder of the masks NAME.png; None: SegmentationClass below `root`.
        unmasked: images of `train` and `val` that have no mask, so that nothing scores them.
        max_side: images with a longer side are read at this length of it, masks too; 0: no bound.
        masks_drawn: the masks are drawn from `sources`, and are no files of the user's.
        sources: those files; empty where the data set was read from its index.
        notes: remarks for people on the origin of the data.
    """

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, tuple[int, ...]]
    files: Mapping[str, str] = field(default_factory=dict)
    masks: Path | None = None
    unmasked: frozenset[str] = frozenset()
    max_side: int = 0
    masks_drawn: bool = field(default=False, compare=False)
    sources: tuple[Path, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def image_path(self, name: str) -> Path:
        """Return the path of the image `name`."""
        return self.root / self.files.get(name, f"JPEGImages/{name}.jpg")

    def mask_path(self, name: str) -> Path:
        """Return the path of the mask of the image `name`; there may be no such file."""
        folder = self.masks or self.root / "SegmentationClass"
        # Some systems store "ü" as two characters, names here are composed; and some programs write
        # suffixes in upper case.
        paths: list[Path] = []
        for stem in (name, unicodedata.normalize("NFD", name)):
            paths += [folder / f"{stem}{suffix}" for suffix in MASK_SUFFIXES]
        return next((path for path in paths if path.exists()), paths[0])

    def scored(self, split: str) -> tuple[str, ...]:
        """Return the images of a split that have a mask."""
        return tuple(name for name in self.splits.get(split, ()) if name not in self.unmasked)

    def size(self, name: str) -> tuple[int, int]:
        """Return (height, width) of an image as it is read, from its header.

        Raises:
            ValueError: it is not a readable JPEG or PNG, or has more than 100 megapixels.
        """
        return self._bounded(self._full_size(name))

    def _full_size(self, name: str) -> tuple[int, int]:
        """Return (height, width) of an image as it is shown."""
        path = self.image_path(name)
        with _open(path, _kind(path)) as image:
            if _orientation(image) in TURNED:
                return image.width, image.height
            return image.height, image.width

    def _bounded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) with sides of at most `max_side`."""
        height, width = size
        longest = max(size)
        if self.max_side == 0 or longest <= self.max_side:
            return size
        return (
            # A long strip of an image must not lose its last row.
            max(1, round(height * self.max_side / longest)),
            max(1, round(width * self.max_side / longest)),
        )

    def image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        """Return an image as RGB, turned as its EXIF orientation says.

        Cameras store photographs as the sensor lies and note how they are to be shown. Programs
        that draw masks show them so.

        Raises:
            ValueError: it is not a readable JPEG, or PNG with 8 bits per channel, or has more than
                100 megapixels.
        """
        path = self.image_path(name)
        with _open(path, _kind(path)) as image:
            # A conversion of these modes would turn all but the darkest pixels white.
            if image.mode.startswith(("I", "F")):
                raise ValueError(
                    f"{path} has pixels of mode {image.mode}; expected 8 bits per channel"
                )
            # A copy, because torch warns of arrays that it cannot write to.
            shown = _shown(_decode(image, path), _orientation(image))
            height, width = self._bounded((shown.height, shown.width))
            # Converted first: a palette has no colours between two others.
            rgb = shown.convert("RGB")
            if (height, width) != (rgb.height, rgb.width):
                rgb = rgb.resize((width, height), Resampling.BICUBIC)
            return np.array(rgb)

    def mask(self, name: str) -> UInt8[np.ndarray, "H W"]:
        """Return a mask as label values: 0 background, 1 to C classes, 255 void.

        Raises:
            ValueError: it is not a readable palette or grey PNG, has another size than the image,
                or holds other values.
        """
        path = self.mask_path(name)
        mask = read_label_map(path, num_classes=len(self.classes))
        expected = self._full_size(name)
        if mask.shape != expected:
            raise ValueError(
                f"{path} is {mask.shape[0]} x {mask.shape[1]} (height x width); "
                f"expected the size of its image, {expected[0]} x {expected[1]}"
                f"{self.turned_image(name)}"
            )
        return self.bounded_mask(mask)

    def turned_image(self, name: str) -> str:
        """Return the end of a message on a size, where EXIF data turn the image; otherwise ""."""
        path = self.image_path(name)
        with _open(path, _kind(path)) as image:
            orientation = _orientation(image)
        if orientation not in TURNED:
            return ""
        return (
            f" as it is shown: its EXIF orientation is {orientation}; turn the mask so, or store "
            "the image turned and without EXIF data"
        )

    def bounded_mask(self, mask: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "h w"]:
        """Return a mask at the size at which its image is read."""
        height, width = self._bounded((mask.shape[0], mask.shape[1]))
        if (height, width) == mask.shape:
            return mask
        return np.array(fromarray(mask).resize((width, height), Resampling.NEAREST))

    def targets(self, names: Sequence[str]) -> Float32[np.ndarray, "B C"]:
        """Return the image labels of `names`, multi-hot."""
        targets = np.zeros((len(names), len(self.classes)), np.float32)
        for row, name in zip(targets, names, strict=True):
            # `row` is a view, so this writes into `targets`.
            row[list(self.labels[name])] = 1
        return targets


def read_label_map(path: Path, *, num_classes: int) -> UInt8[np.ndarray, "H W"]:
    """Read a label map as label values: 0 background, 1 to C classes, 255 void.

    Raises:
        ValueError: it is not a readable palette or grey PNG, or holds other values.
    """
    with _open(path, PngImageFile) as image:
        # Mode 1 has one bit a pixel: 0 is the background, 1 the only class.
        if image.mode not in ("P", "L", "1"):
            raise ValueError(
                f"{path} is a PNG of mode {image.mode}; expected palette indices (or grey values) "
                "of 8 bits, the number of its class for each pixel; `python -m occse data relabel "
                f"{path.parent} --out FOLDER` turns colours and other numbers into them"
            )
        shown = _shown(_decode(image, path), _orientation(image))
        labels: UInt8[np.ndarray, "H W"] = np.array(shown).astype(np.uint8)
    counts = np.bincount(labels.ravel(), minlength=VOID + 1)
    if counts[num_classes + 1 : VOID].any():
        values = (num_classes + 1 + np.flatnonzero(counts[num_classes + 1 : VOID])).tolist()
        raise ValueError(
            f"{path} holds the labels {values}; allowed are 0..{num_classes} and {VOID}: add "
            "classes, or change the numbers with `python -m occse data relabel`"
        )
    return labels


def read_png(path: Path) -> Image:
    """Return a PNG file as it is stored, whatever its pixels are.

    Raises:
        ValueError: it is no readable PNG, or has more than 100 megapixels.
    """
    with _open(path, PngImageFile) as image:
        return _decode(image, path).copy()


def save_index(dataset: Dataset, folder: Path) -> None:
    """Write the index of `dataset` into the artifact `folder`.

    A root inside the folder is stored relative to it, so that the artifact can be moved.
    """
    inside = dataset.root.is_relative_to(folder)
    index = {
        "root": dataset.root.relative_to(folder).as_posix() if inside else None,
        "classes": dataset.classes,
        "splits": dict(dataset.splits),
        "labels": dict(dataset.labels),
        "files": dict(dataset.files),
        "masks": dataset.masks and _below(dataset.masks, artifact=folder, root=dataset.root),
        "unmasked": sorted(dataset.unmasked),
        "max_side": dataset.max_side,
    }
    (folder / INDEX).write_text(json.dumps(index))


def load_dataset(folder: Path, *, data_root: Path | None) -> Dataset:
    """Read the data set whose index lies in the artifact `folder`.

    Args:
        folder: the artifact of a data stage.
        data_root: the folder of the images, if they are read in place.

    Raises:
        ValueError: there is no index, or the images are read in place and `data_root` is None.
    """
    path = folder / INDEX
    try:
        index = parse_json(path.read_text())
        inside = index["root"]
        classes = tuple(index["classes"])
        splits = {split: tuple(names) for split, names in index["splits"].items()}
        labels = {name: tuple(present) for name, present in index["labels"].items()}
        files, masks = dict(index.get("files", {})), index.get("masks")
        unmasked = frozenset(index.get("unmasked", ()))
        max_side = int(index.get("max_side", 0))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an index of a data set: {error!r}") from None
    root = data_root if inside is None else folder / PurePosixPath(inside)
    if root is None:
        raise ValueError(
            f"the images of {path} are read in place; say where they lie with --data-root"
        )
    mask_folder = None
    masks_drawn = masks is not None and masks[0] == "artifact"
    if masks is not None:
        base, below = masks
        mask_folder = {"artifact": folder, "root": root}[base] / PurePosixPath(below)
    return Dataset(
        root=root,
        classes=classes,
        splits=splits,
        labels=labels,
        files=files,
        masks=mask_folder,
        unmasked=unmasked,
        max_side=max_side,
        masks_drawn=masks_drawn,
    )


def load_classes(folder: Path) -> tuple[str, ...]:
    """Return the class names of the data set whose index lies in the artifact `folder`.

    Raises:
        ValueError: there is no index.
    """
    # The root is that of the images, and nothing here reads one.
    return load_dataset(folder, data_root=folder).classes


def _below(path: Path, *, artifact: Path, root: Path) -> tuple[str, str]:
    """Return `path` relative to the artifact or to the data set, so that both can be moved."""
    if path.is_relative_to(artifact):
        return "artifact", path.relative_to(artifact).as_posix()
    return "root", path.relative_to(root).as_posix()


def _kind(path: Path) -> type[ImageFile]:
    """Return the decoder of a file by its first bytes, or by its suffix if they say nothing.

    A PNG that is called .jpg is common where images come from the web.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(PNG_HEAD))
    except OSError:
        head = b""
    if head == PNG_HEAD:
        return PngImageFile
    if head.startswith(JPEG_HEAD):
        return JpegImageFile
    return PngImageFile if path.suffix.lower() == ".png" else JpegImageFile


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation of an image; 1, as it is stored, if there is none."""
    # PIL would decode a PNG to its end to look for EXIF data behind the pixels.
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except (*UNREADABLE, TypeError):
        # EXIF data that cannot be read say nothing; viewers ignore them too.
        return 1


def _shown(image: Image, orientation: int) -> Image:
    """Return an image as it is shown with an EXIF orientation."""
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _open(path: Path, kind: type[ImageFile]) -> ImageFile:
    """Read the header with one decoder only, and check the size before anything is decoded.

    `PIL.Image.open` would try every format that it knows, and only warn of large images.
    """
    try:
        image = kind(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; expected a {_format(kind)} image") from None
    except UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as a {_format(kind)} image: {error}{_way_out(path, kind)}"
        ) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(
            f"{path} says that it is {image.height} x {image.width}; "
            f"images of more than {MAX_PIXELS // 1_000_000} megapixels are refused"
        )
    return image


def _decode(image: ImageFile, path: Path) -> Image:
    try:
        image.load()
    except UNREADABLE as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from None
    return image


def _way_out(path: Path, kind: type[ImageFile]) -> str:
    """Return the end of a message on a file that is no image of a kind."""
    if kind is PngImageFile and _kind(path) is JpegImageFile:
        return (
            "; it is a JPEG, whose compression changes the numbers of the classes: draw the mask "
            "again as PNG"
        )
    return f"; expected a {_format(kind)} file: convert it, or leave it out"


def _format(kind: type[ImageFile]) -> str:
    return "JPEG" if kind is JpegImageFile else "PNG"
