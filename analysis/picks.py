"""Which images to look at when two variants are compared: chosen by numbers or by a seeded draw, not by taste."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from analysis.artifacts import counts_of, names_below, run_file
from analysis.counts import Floats, Ints, PerImage
from analysis.figures.panels import Row
from analysis.knobs import scored


@dataclass(frozen=True, kw_only=True)
class Pick:
    """An image and why it is shown; `difference` in its own mIoU (a fraction), mean over the common seeds."""

    image: str
    why: str
    difference: float


def picks(system: Mapping[int, PerImage], other: Mapping[int, PerImage], *, seed: int = 0) -> tuple[Pick, ...]:
    """The image on which `system` gains most on `other`, the one where it loses most, and one drawn with `seed`.

    An image's own mIoU is the mean over the classes that are in its truth or in its prediction.

    Raises:
        ValueError: they share no seed or no three images.
    """
    seeds = sorted(system.keys() & other.keys())
    if not seeds:
        raise ValueError(f"no seed is common to both: {sorted(system)} and {sorted(other)}")
    names = sorted(set(system[seeds[0]].names).intersection(*(each.names for each in other.values())))
    if len(names) < 3:
        raise ValueError(f"{len(names)} images are common to both; expected at least three")
    gains = [own_miou(system[each].only(names).table) - own_miou(other[each].only(names).table) for each in seeds]
    mean = np.mean(gains, axis=0)
    most, least = int(mean.argmax()), int(mean.argmin())
    drawn = int(
        np.random.default_rng(seed).choice([place for place in range(len(names)) if place not in (most, least)])
    )
    chosen = {"largest gain": most, "largest loss": least, "drawn at random": drawn}
    return tuple(Pick(image=names[at], why=why, difference=float(mean[at])) for why, at in chosen.items())


def own_miou(table: Ints) -> Floats:
    """(I,) mIoU of every image by itself from (I, 3, L) counts, over the classes in its truth or prediction."""
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
) -> tuple[list[Row], list[str]]:
    """Panels of the picked images by the baseline and by `variant`, and what of it could not be shown.

    Where an image that the numbers pick has no panel, the picks among the images that have one are taken instead.

    Args:
        trials: from `load`.
        field: the scored stage by which images are picked.
        variant: what is compared with the baseline.
        tracking: as in `load`.
        folders: of the baseline's and the variant's panels, as `occse panels` draws them; by default those in MLflow.
        seed: of the image that is drawn at random.

    Raises:
        ValueError: a variant has no counts of that stage, or fewer than three images have panels of both.
    """
    runs = _runs(trials, field, variant)
    counts = [counts_of(each, field, tracking=tracking) for each in runs]
    systems = [
        {each["seed"]: found[each["run_id"]] for each in rows.to_dict("records")}
        for rows, found in zip(runs, counts, strict=True)
    ]
    wanted = picks(systems[1], systems[0], seed=seed)
    shared = min(systems[0].keys() & systems[1].keys())
    sources: Sequence[Path | str] = folders or [
        str(rows.loc[rows["seed"] == shared, "run_id"].iloc[0]) for rows in runs
    ]
    there = set.intersection(*({Path(name).stem for name in _panels(each, tracking)} for each in sources))
    notes, shown = [], wanted
    if missing := [pick.image for pick in wanted if pick.image not in there]:
        notes.append(
            f"No panels of {', '.join(missing)}: draw them with `python -m occse panels --images {' '.join(missing)}` "
            "for the baseline and for the variant, and name both folders with --panels."
        )
        own = [name for name in systems[0][shared].names if name in there]
        notes.append(f"Shown instead: the same picks among the {len(own)} images that have panels.")
        shown = picks(*({key: each.only(own) for key, each in system.items()} for system in systems[::-1]), seed=seed)
    rows = [
        Row(
            title=f"{pick.why}, {100 * pick.difference:+.1f} points",
            panels=[_panel(each, pick.image, tracking) for each in sources],
        )
        for pick in shown
    ]
    return rows, notes


def _runs(trials: pd.DataFrame, field: str, variant: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = scored(trials, f"{field}/miou")
    found = rows[rows["baseline"]], rows[(rows["variant"] == variant) & ~rows["baseline"]]
    if found[0].empty or found[1].empty:
        raise ValueError(f"{field}/miou: there are {len(found[0])} baselines and {len(found[1])} trials of {variant!r}")
    return found


def _panels(source: Path | str, tracking: str | None) -> list[str]:
    if isinstance(source, Path):
        return [path.name for path in source.glob("*.png")]
    return [Path(name).name for name in names_below(source, "panels", tracking=tracking)]


def _panel(source: Path | str, image: str, tracking: str | None) -> NDArray[np.uint8]:
    if isinstance(source, Path):
        return _pixels(source / f"{image}.png")
    with run_file(source, f"panels/{image}.png", tracking=tracking) as path:
        return _pixels(path)


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path, formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))
