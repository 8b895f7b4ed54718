"""Which images to look at when two variants are compared: chosen by numbers or by a seeded draw,
not by taste.
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


@dataclass(frozen=True, kw_only=True)
class Pick:
    """An image and why it is shown; `difference` in its own mIoU (a fraction), mean over the common
    seeds.
    """

    image: str
    why: str
    difference: float


def picks(
    system: Mapping[int, PerImage], other: Mapping[int, PerImage], *, seed: int = 0
) -> tuple[Pick, ...]:
    """The image on which `system` gains most on `other`, the one where it loses most, and one drawn
    with `seed`.

    An image's own mIoU is the mean over the classes that are in its truth or in its prediction.

    Raises:
        ValueError: they share no seed or no three images.
    """
    seeds = sorted(system.keys() & other.keys())
    if not seeds:
        raise ValueError(f"no seed is common to both: {sorted(system)} and {sorted(other)}")
    names = sorted(
        set(system[seeds[0]].names).intersection(*(each.names for each in other.values()))
    )
    if len(names) < 3:
        raise ValueError(f"{len(names)} images are common to both; expected at least three")
    gains = [
        own_miou(system[each].only(names).table) - own_miou(other[each].only(names).table)
        for each in seeds
    ]
    mean = np.mean(gains, axis=0)
    most, least = int(mean.argmax()), int(mean.argmin())
    drawn = int(
        np.random.default_rng(seed).choice(
            [place for place in range(len(names)) if place not in (most, least)]
        )
    )
    chosen = {"largest gain": most, "largest loss": least, "drawn at random": drawn}
    return tuple(
        Pick(image=names[at], why=why, difference=float(mean[at])) for why, at in chosen.items()
    )


def own_miou(table: Ints) -> Floats:
    """(I,) mIoU of every image by itself from (I, 3, L) counts, over the classes in its truth or
    prediction.
    """
    hit, union = table[:, 0], table[:, 1] + table[:, 2] - table[:, 0]
    there = union > 0
    ratio = np.divide(hit, union, out=np.zeros(hit.shape), where=there)
    mean: Floats = ratio.sum(axis=1) / np.maximum(1, there.sum(axis=1))
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
    """Panels of the picked images by the baseline and by `variant`, and what of it could not be
    shown.

    Where an image that the numbers pick has no panel, the picks among the images that have one are
    taken instead.

    Args:
        trials: from `load`. field: the scored stage by which images are picked. variant: what is
        compared with the baseline. tracking: as in `load`. folders: of the baseline's and the
        variant's panels, as `occse panels` draws them; by default those in MLflow. seed: of the
        image that is drawn at random.

    Raises:
        ValueError: a variant has no counts of that stage, or fewer than three images have panels of
        both.
    """
    runs = _runs(trials, field, variant)
    reference, system = (_by_seed(rows, field, tracking) for rows in runs)
    wanted, notes = picks(system, reference, seed=seed), []
    sources: Sequence[Path | str] = folders or _run_ids(runs, min(system.keys() & reference.keys()))
    drawn = set.intersection(*(_panels(each, tracking) for each in sources))
    if missing := [pick.image for pick in wanted if pick.image not in drawn]:
        there = drawn & set(next(iter(system.values())).names)
        notes = [
            f"No panels of {', '.join(missing)}: draw them with `python -m occse panels --images {' '.join(missing)}` "
            "for the baseline and for the variant, and name both folders with --panels.",
            f"Shown instead: the same picks among the {len(there)} images that have panels.",
        ]
        wanted = picks(_only(system, there), _only(reference, there), seed=seed)
    rows = [
        PanelRow(
            title=f"{pick.why}, {100 * pick.difference:+.1f} points",
            panels=[_panel(each, pick.image, tracking) for each in sources],
        )
        for pick in wanted
    ]
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
        raise ValueError(
            f"{field}/miou: there are {len(found[0])} baselines and {len(found[1])} trials of {variant!r}"
        )
    return found


def _panels(source: Path | str, tracking: str | None) -> set[str]:
    """The images of which a folder, or a run in MLflow, has panels."""
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
