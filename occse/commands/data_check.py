"""`occse data check`: count and verify the user's data set; writes nothing."""

import argparse
from pathlib import Path

from occse.commands.options import Commands, Finding, add_set, assignments
from occse.data.tree import describe, faults, tree_digest
from occse.pipeline import default_pipeline, override
from occse.stages.data import InPlace

# A tree that is wrong as a whole has a fault in every file; the first ones tell the kind.
SHOWN_FAULTS = 20


def add(commands: Commands) -> None:
    data = commands.add_parser("data", help="look at a data set").add_subparsers(required=True)
    command = data.add_parser("check", help="count and verify images, labels and masks")
    command.add_argument("--data-root", type=Path, required=True, help="the data set's folder")
    command.add_argument("--kind", choices=("voc", "coco", "folder"), default="voc")
    add_set(command, example="data.images=all")
    command.set_defaults(command=check_data)


def check_data(options: argparse.Namespace) -> None:
    """Print the counts of the data set, and every fault of its files.

    Raises:
        Finding: files are at fault.
    """
    knobs = assignments(options) | {"data.kind": options.kind}
    data = override(default_pipeline(), knobs).data
    # --kind allows no other.
    assert isinstance(data, InPlace)
    dataset = data.read(options.data_root)
    print("\n".join(describe(dataset, published=data.published())), flush=True)
    found = list(faults(dataset))
    if found:
        num_hidden = len(found) - SHOWN_FAULTS
        more = [f"... and {num_hidden} more"] if num_hidden > 0 else []
        lines = (f"{len(found)} files are at fault:", *found[:SHOWN_FAULTS], *more)
        raise Finding("\n".join(lines))
    print(f"all images and masks are readable; digest {tree_digest(dataset)}")
