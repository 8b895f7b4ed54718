"""`occse panels`: pictures of what the stages made of some images."""

import argparse
from pathlib import Path

from occse.artifacts.execute import find
from occse.artifacts.manifest import artifact_folder
from occse.artifacts.panels import choose, draw_panel
from occse.commands.options import Commands, add_trial, planned, positive
from occse.data.dataset import Dataset, load_dataset


def add(commands: Commands) -> None:
    command = commands.add_parser("panels", help="pictures of what the stages made of some images")
    command.set_defaults(command=panels)
    add_trial(command)
    command.add_argument(
        "--images", nargs="+", metavar="ID", help="names; default: some of train and of val"
    )
    command.add_argument(
        "--number", type=positive, default=4, help="of images of each split, without --images (4)"
    )
    command.add_argument(
        "--out", type=Path, default=Path("panels"), help="folder of the PNGs (panels)"
    )


def panels(options: argparse.Namespace) -> None:
    """Draw the results of the stages for some images, from the artifacts in the store."""
    nodes = planned(options)
    store = options.store
    folders = {
        field: artifact_folder(store, node) for field, node in nodes.items() if find(store, node)
    }
    if "data" not in folders:
        raise ValueError(
            f"{store} lacks the artifact {nodes['data'].fingerprint} of 'data': run the trial first"
        )
    names = options.images
    if not names:
        dataset = load_dataset(folders["data"], data_root=options.data_root)
        names = _chosen(dataset, options.number)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = options.out / f"{name}.png"
        draw_panel(name, folders, data_root=options.data_root).save(path)
        print(path)
    missing = [field for field in nodes if field not in folders]
    if missing:
        print(f"not in {store}, and so not shown: {', '.join(missing)}")


def _chosen(dataset: Dataset, number: int) -> list[str]:
    return [*choose(dataset, "train", number=number), *choose(dataset, "val", number=number)]
