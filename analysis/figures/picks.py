"""Images to look at when two variants are compared: chosen by numbers or by a seeded draw, not by
taste.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from analysis.figures.panels import PanelRow
from analysis.read.artifacts import counts_of, names_below, run_file
from analysis.read.counts import Floats, Ints, PerImage
from analysis.read.knobs import scored
from analysis.read.labels import naming_of
from analysis.table.digits import points, with_minus


@dataclass(frozen=True, kw_only=True)
class Pick:
    """An image and the reason why it is shown.

    `difference` is that of its own mIoU, a fraction, mean over the common seeds.
    """

    image: str
    why: str
    difference: float


def picks(
    system: Mapping[int, PerImage], other: Mapping[int, PerImage], *, seed: int = 0
) -> tuple[Pick, ...]:
    """Return the images of the largest gain on `other` and of the largest loss, and one at random.

    An image's own mIoU is the mean over the classes that are in its truth or in its prediction.

    Raises:
        ValueError: they share no seed or no three images.
    """
    seeds = sorted(system.keys() & other.keys())
    if not seeds:
        raise ValueError(f"no seed is common to both: {sorted(system)} and {sorted(other)}")
    of_others = [counts.names for counts in other.values()]
    names = sorted(set(system[seeds[0]].names).intersection(*of_others))
    if len(names) < 3:
        raise ValueError(f"{len(names)} images are common to both; expected at least three")
    gains = []
    for number in seeds:
        own = own_miou(system[number].only(names).table)
        gains.append(own - own_miou(other[number].only(names).table))
    mean = np.mean(gains, axis=0)
    most = int(mean.argmax())
    least = int(mean.argmin())
    rest = [index for index in range(len(names)) if index not in (most, least)]
    drawn = int(np.random.default_rng(seed).choice(rest))
    chosen = {"largest gain": most, "largest loss": least, "drawn at random": drawn}
    return tuple(
        Pick(image=names[index], why=why, difference=float(mean[index]))
        for why, index in chosen.items()
    )


def own_miou(table: Ints) -> Floats:
    """Return the (I,) mIoU of every image by itself from (I, 3, L) counts.

    The mean is over the classes in the image's truth or prediction.
    """
    hit = table[:, 0]
    union = table[:, 1] + table[:, 2] - hit
    is_present = union > 0
    # `where` leaves the rest of `out` untouched, so it starts as zeros.
    ratio = np.divide(hit, union, out=np.zeros(hit.shape), where=is_present)
    # An image that is void all over has no class; its mIoU is 0.
    mean: Floats = ratio.sum(axis=1) / np.maximum(1, is_present.sum(axis=1))
    return mean


def picked_rows(
    trials: pd.DataFrame,
    field: str,
    variant: str,
    *,
    tracking: str | None = None,
    folders: Sequence[Path] = (),
    seed: int = 0,
) -> tuple[list[PanelRow], list[str]]:
    """Return panels of the picked images by the baseline and `variant`, and notes on missing ones.

    Where an image that the numbers pick has no panel, the picks among the images that have one are
    taken instead.

    Args:
        trials: from `load`.
        field: the scored stage by which images are picked.
        variant: what is compared with the baseline.
        tracking: as in `load`.
        folders: of the baseline's and the variant's panels, as `occse panels` draws them; by
            default those in MLflow.
        seed: of the image that is drawn at random.

    Raises:
        ValueError: a variant has no counts of that stage, or fewer than three images have panels of
        both.
    """
    runs = _runs(trials, field, variant)
    reference, system = (_by_seed(rows, field, tracking) for rows in runs)
    wanted = picks(system, reference, seed=seed)
    notes: list[str] = []
    sources: Sequence[Path | str] = folders or _run_ids(runs, min(system.keys() & reference.keys()))
    drawn = set.intersection(*(_panels(source, tracking) for source in sources))
    missing = [pick.image for pick in wanted if pick.image not in drawn]
    if missing:
        available = drawn & set(next(iter(system.values())).names)
        command = f"python -m occse panels --images {' '.join(missing)}"
        notes = [
            f"No panels of {', '.join(missing)}: draw them with `{command}` for the baseline and "
            "for the variant, and name both folders with --panels.",
            f"Shown instead: the same picks among the {len(available)} images that have panels.",
        ]
        wanted = picks(_only(system, available), _only(reference, available), seed=seed)
    rows = []
    for pick in wanted:
        panels = [_panel(source, pick.image, tracking) for source in sources]
        title = f"{pick.why}, {with_minus(points(pick.difference))} points"
        rows.append(PanelRow(title=title, panels=panels))
    return rows, notes


def _by_seed(rows: pd.DataFrame, field: str, tracking: str | None) -> dict[int, PerImage]:
    counts = counts_of(rows, field, tracking=tracking)
    return {seed: counts[run] for seed, run in zip(rows["seed"], rows["run_id"], strict=True)}


def _only(system: Mapping[int, PerImage], images: Collection[str]) -> dict[int, PerImage]:
    return {seed: counts.only(sorted(images)) for seed, counts in system.items()}


def _run_ids(runs: Sequence[pd.DataFrame], seed: int) -> list[str]:
    return [str(rows.loc[rows["seed"] == seed, "run_id"].iloc[0]) for rows in runs]


def _runs(trials: pd.DataFrame, field: str, variant: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = scored(trials, f"{field}/miou")
    found = rows[rows["baseline"]], rows[(rows["variant"] == variant) & ~rows["baseline"]]
    if found[0].empty or found[1].empty:
        name = str(naming_of(trials).variant(variant))
        raise ValueError(
            f"{field}/miou: expected trials of the baseline and of {name!r}; there are "
            f"{len(found[0])} and {len(found[1])}"
        )
    return found


def _panels(source: Path | str, tracking: str | None) -> set[str]:
    """Return the images of which a folder, or a run in MLflow, has panels."""
    if isinstance(source, Path):
        return {path.stem for path in source.glob("*.png")}
    return {Path(name).stem for name in names_below(source, "panels", tracking=tracking)}


def _panel(source: Path | str, image: str, tracking: str | None) -> NDArray[np.uint8]:
    if isinstance(source, Path):
        return _pixels(source / f"{image}.png")
    with run_file(source, f"panels/{image}.png", tracking=tracking) as path:
        return _pixels(path)


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path, formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))
