"""The gallery: one image by several variants and stages, with a threshold for the maps."""

import base64
import io
from functools import partial
from typing import Any

import pandas as pd
from PIL import Image

from analysis.report.blocks import Block, Section, Widget
from analysis.report.maps import MapCell, images_with_maps, maps_of
from analysis.report.material import Material, Sweep
from analysis.report.pictures import attempt, missing_block, panels

# A page with more of them takes over 2 MB, and nobody compares more rows by eye.
MOST_VARIANTS = 8
# Photographs at this quality are some 10 kB; maps and labels are stored without loss.
QUALITY = 80
WITHOUT = (
    "With a script, this part shows one image by variant and stage, and cuts the activation maps "
    "at a threshold. The figure below shows three images."
)


def gallery(material: Material) -> Section:
    """Return the images of every sweep that recorded maps, and three picked ones as a figure."""
    blocks: list[Block] = []
    missing: list[str] = []
    for sweep in material.sweeps:
        if not sweep.scored_stages:
            continue
        stage = sweep.last_stage
        try:
            data = _data(sweep, material.tracking)
            blocks.append(Widget(kind="gallery", data=data, without=WITHOUT))
        except (ValueError, ConnectionError) as error:
            missing.append(f"{sweep.prefix}gallery: {error}.")
        picture = attempt(
            sweep, "panels", partial(panels, sweep, stage, material.tracking), missing
        )
        if picture is not None:
            blocks.append(picture)
    return Section(key="images", title="Images", blocks=[*blocks, *missing_block(missing)])


def _data(sweep: Sweep, tracking: str | None) -> dict[str, Any]:
    """Return the cells of every image by variant; equal pictures are stored once."""
    chosen = _chosen(sweep)
    images: dict[str, None] = {}
    pictures: dict[str, int] = {}
    classes: dict[str, str] = {}
    rows = []
    for run in chosen.to_dict("records"):
        names = images_with_maps(str(run["run_id"]), tracking=tracking)
        images |= dict.fromkeys(names)
        cells: dict[str, list[list[Any]]] = {}
        for name in names:
            found = maps_of(str(run["run_id"]), name, tracking=tracking)
            classes |= found.classes
            cells[name] = [
                # The number of an equal picture, or the next free one: all variants show the same
                # photograph.
                [cell.title, cell.kind, pictures.setdefault(_data_uri(cell), len(pictures))]
                for cell in found.cells
            ]
        threshold = run.get("cam/threshold")
        rows.append(
            {
                "name": sweep.names[run["variant"]],
                "seed": run["seed"],
                # NaN, which JSON does not have, stands where CAMs were not scored.
                "threshold": threshold if threshold == threshold else None,
                "cells": cells,
            }
        )
    if not images:
        raise ValueError("no run has maps in MLflow; sweeps since 2026-11-27 record them")
    return {
        "images": list(images),
        "rows": rows,
        "pictures": list(pictures),
        "classes": classes,
        "told": _told(sweep, chosen),
    }


def _chosen(sweep: Sweep) -> pd.DataFrame:
    """Return one run of the baseline and of the variants with the highest means."""
    metric = f"{sweep.last_stage}/miou"
    scored = sweep.trials[sweep.trials[metric].notna()]
    means = scored.groupby("variant", sort=False)[metric].mean()
    is_baseline = scored.groupby("variant", sort=False)["baseline"].any()
    order = pd.DataFrame({"baseline": is_baseline, "mean": means})
    ranked = order.sort_values(["baseline", "mean"], ascending=False, kind="stable")
    kept = list(ranked.index[:MOST_VARIANTS])
    first = scored.sort_values("seed", kind="stable").drop_duplicates("variant")
    return first.set_index("variant", drop=False).loc[kept]


def _told(sweep: Sweep, chosen: pd.DataFrame) -> str:
    total = len(sweep.names)
    which = "All variants"
    if len(chosen) < total:
        which = (
            f"{len(chosen)} of {total} variants: the baseline, and those with the highest "
            f"{sweep.labels.score(sweep.last_stage)}"
        )
    return f"{which}, by their lowest seed. The images are the same for every trial."


def _data_uri(cell: MapCell) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(cell.pixels)
    if cell.kind == "image":
        image.save(buffer, "WEBP", quality=QUALITY)
    else:
        # the colours of labels, and the values that a threshold cuts, are kept as they are
        image.save(buffer, "WEBP", lossless=True, quality=100)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
