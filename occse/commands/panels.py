"""`occse panels`: pictures of what the stages made of some images."""

import argparse
from pathlib import Path

from occse.artifacts.panels import MAX_SIDE, choose, draw_panel
from occse.commands.options import Commands
from occse.commands.values import positive
from occse.commands.which import add_meant, meant
from occse.data.dataset import Dataset, load_dataset


def add(commands: Commands) -> None:
    command = commands.add_parser("panels", help="draw the results of all stages for some images")
    command.set_defaults(command=panels)
    add_meant(command)
    command.add_argument(
        "--images",
        nargs="+",
        metavar="ID",
        help="names of images (default: some of train and val)",
    )
    command.add_argument(
        "--number",
        type=positive,
        default=4,
        help="images per split, without --images (default: 4)",
    )
    command.add_argument(
        "--max-side",
        type=positive,
        default=MAX_SIDE,
        help=f"larger images are reduced to this side, in pixels ({MAX_SIDE})",
    )
    command.add_argument(
        "--out", type=Path, default=Path("panels"), help="folder of the PNGs (panels)"
    )


def panels(options: argparse.Namespace) -> None:
    """Draw the results of the stages for some images, from the artifacts in the store."""
    found = meant(options)
    data = found.folder("data", store=options.store)
    names = options.images
    if not names:
        names = _chosen(load_dataset(data, data_root=found.data_root), options.number)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = options.out / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        panel = draw_panel(
            name, found.folders, data_root=found.data_root, max_side=options.max_side
        )
        panel.save(path)
        print(path)
    missing = [field for field in found.fingerprints if field not in found.folders]
    if missing:
        print(f"not in {options.store}, and so not shown: {', '.join(missing)}")


def _chosen(dataset: Dataset, number: int) -> list[str]:
    return [*choose(dataset, "train", number=number), *choose(dataset, "val", number=number)]
