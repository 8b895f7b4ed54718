"""A look at every pixel of a data set: damaged files, and masks that contradict image labels."""

import multiprocessing
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from occse.data.dataset import VOID, Dataset
from occse.data.tree import TEST_SPLIT, doubts_of, masked_names

# Starting processes takes longer than decoding this many images.
FEW = 200
# Images per message to a process: a message takes about as long as decoding an image.
CHUNK = 16


@dataclass(frozen=True)
class Seen:
    """The content of one image and its mask.

    Attributes:
        name: of the image.
        faults: of its files.
        pixels: number of pixels by label of the mask; empty if there is no readable mask.
    """

    name: str
    faults: tuple[str, ...]
    pixels: dict[int, int]


@dataclass
class Findings:
    """The result of a look at all files.

    Attributes:
        faults: one line for each file that cannot be used.
        contradictions: one line for each kind of contradiction, with the way to mend it.
        notes: what may be meant so, but is more often a mistake.
        pixels: number of pixels by label, over all masks.
        images: number of masks with each label.
    """

    faults: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)


def inspect(
    dataset: Dataset, *, workers: int = 0, report: Callable[[int, int], None] | None = None
) -> Findings:
    """Decode every image and every mask that is scored, and compare masks with image labels.

    Args:
        dataset: to look at.
        workers: number of processes; 0: this one alone.
        report: called with the numbers of images looked at and of all images.
    """
    names = [*dataset.labels, *dataset.splits.get(TEST_SPLIT, ())]
    findings = Findings()
    seen: list[Seen] = []
    for number, image in enumerate(_look_at_all(dataset, names, workers), start=1):
        findings.faults += image.faults
        findings.pixels.update(image.pixels)
        findings.images.update(image.pixels.keys())
        seen.append(image)
        if report is not None:
            report(number, len(names))
    findings.notes += doubts_of(dataset)
    _compare(dataset, [image for image in seen if image.pixels], findings)
    return findings


def _look_at_all(dataset: Dataset, names: list[str], workers: int) -> Iterator[Seen]:
    masked = set(masked_names(dataset))
    if workers <= 1 or len(names) < FEW:
        yield from (_look(dataset, name, with_mask=name in masked) for name in names)
        return
    # Spawn, because a fork would copy the locks of torch's threads in whatever state they are.
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_Process.keep,
        initargs=(dataset, masked),
    ) as pool:
        yield from pool.map(_Process.look, names, chunksize=CHUNK)


class _Process:
    """The data set of a process of the pool; sent once, and not with every image."""

    dataset: Dataset
    masked: set[str]

    @classmethod
    def keep(cls, dataset: Dataset, masked: set[str]) -> None:
        cls.dataset = dataset
        cls.masked = masked

    @classmethod
    def look(cls, name: str) -> Seen:
        return _look(cls.dataset, name, with_mask=name in cls.masked)


def _look(dataset: Dataset, name: str, *, with_mask: bool) -> Seen:
    faults: list[str] = []
    pixels: dict[int, int] = {}
    try:
        dataset.image(name)
    except ValueError as error:
        faults.append(str(error))
    if with_mask:
        try:
            counts = np.bincount(dataset.mask(name).ravel(), minlength=VOID + 1)
            pixels = {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
        except ValueError as error:
            # A damaged image has no size to compare with, and was told above.
            if str(error) not in faults:
                faults.append(str(error))
    return Seen(name, tuple(faults), pixels)


def _compare(dataset: Dataset, masks: list[Seen], findings: Findings) -> None:
    """Add the contradictions between masks, labels and classes to `findings`."""
    if not masks:
        return
    void = [image.name for image in masks if image.pixels.keys() == {VOID}]
    if void:
        lines = findings.contradictions if len(void) == len(masks) else findings.notes
        lines.append(f"{_some(void)} void (255) everywhere: nothing of them is scored")
    binary = [image.name for image in masks if image.pixels.keys() == {0, VOID}]
    # A single one may show nothing but objects that are too hard to draw.
    if len(binary) > len(masks) / 2:
        findings.contradictions.append(
            f"{_some(binary)} background (0) and void (255) only: in a mask of one class the class "
            f"is 1; write them with `{_relabel(dataset, binary[0])} 255=1`"
        )
        return
    _compare_labels(dataset, masks, findings)
    present: set[int] = set().union(*dataset.labels.values())
    for index, label in enumerate(dataset.classes):
        # Without an image of it, the labels alone have told.
        if index in present and findings.pixels[index + 1] == 0:
            findings.notes.append(f"no mask shows the class {label}: its IoU will be 0")


def _compare_labels(dataset: Dataset, masks: list[Seen], findings: Findings) -> None:
    unlabelled: list[str] = []
    unseen: list[str] = []
    for image in masks:
        shown = {label - 1 for label in image.pixels if label not in (0, VOID)}
        given = set(dataset.labels.get(image.name, ()))
        if shown - given:
            unlabelled.append(f"{image.name} ({dataset.classes[min(shown - given)]})")
        if given - shown and image.pixels.keys() != {VOID}:
            unseen.append(f"{image.name} ({dataset.classes[min(given - shown)]})")
    if unlabelled:
        findings.contradictions.append(
            f"{_some(unlabelled)} a class that the image labels do not name: "
            "add it to the labels, or mend the mask"
            f"{'' if dataset.masks_drawn else ', or take the labels from it (data.labels=masks)'}"
        )
    if unseen:
        findings.notes.append(
            f"{_some(unseen)} no pixel of a class that the image labels name: "
            "right where the object is hidden or void, otherwise mend one of the two"
        )
    if len(unlabelled) == len(unseen) == len(masks) > 1:
        findings.contradictions.append(
            "every mask disagrees with its labels: the classes may be in another order than the "
            "labels of the masks, or shifted by one; mend the order in classes.txt or data.classes "
            f"(without the background), or `{_relabel(dataset, masks[0].name)} 1=2 2=1` the masks"
        )


def _relabel(dataset: Dataset, name: str) -> str:
    """Return the beginning of the command that writes the masks with other numbers."""
    folder = shlex.quote(str(dataset.mask_path(name).parent))
    return f"python -m occse data relabel {folder} --out FOLDER"


def _some(names: list[str]) -> str:
    """Return the number of masks with the first of them, as the beginning of a sentence."""
    if len(names) == 1:
        return f"1 mask, {names[0]}, has"
    return f"{len(names)} masks, the first {names[0]}, have"
