"""`occse export`: the results of a stage as files that other programs read."""

import argparse
from pathlib import Path
from typing import get_args

from occse.artifacts.export import CamFormat, export_cams, export_labels, write_readme
from occse.commands.options import Commands, make_folder
from occse.commands.which import add_meant, manifest_of, meant, with_inputs
from occse.data.dataset import load_classes, load_dataset
from occse.pipeline import pipeline_class, stage_classes

# The stage whose results are maps of scores; those of all others are label maps.
CAM = "MakeCam"


def add(commands: Commands) -> None:
    command = commands.add_parser("export", help="write results of a stage as PNG or .npy files")
    command.set_defaults(command=export)
    command.add_argument("stage", help="cam, crf, pseudo or seg")
    add_meant(command)
    command.add_argument("--fingerprint", help="an artifact, in place of a trial")
    command.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the folder to write into"
    )
    command.add_argument(
        "--format",
        choices=get_args(CamFormat),
        help="of CAMs: pictures (png, the default), .npy dictionaries as psa and OC-CSE write "
        "them (psa), or as irn does (irn)",
    )


def export(options: argparse.Namespace) -> None:
    """Write the results of a stage, and a README.txt that says what made them.

    Raises:
        ValueError: the artifact is not in the store, or has no such results.
    """
    fields = pipeline_class().model_fields
    if options.stage not in fields:
        raise ValueError(f"there is no stage {options.stage!r}; there are {', '.join(fields)}")
    if options.fingerprint is None:
        found = meant(options)
    else:
        found = with_inputs(options.store, options.fingerprint, options.stage, options.data_root)
    artifact = found.folder(options.stage, store=options.store)
    made_by = manifest_of(artifact).stage
    expected = [kind.__name__ for kind in stage_classes(options.stage)]
    if made_by not in expected:
        raise ValueError(
            f"{artifact} was made by {made_by}; expected an artifact of {options.stage}, "
            f"{' or '.join(expected)}"
        )
    data = found.folder("data", store=options.store)
    manifest = manifest_of(artifact)
    if manifest.stage == CAM:
        form: CamFormat = options.format or "png"
        # Maps are drawn over their images; label maps need none, wherever they lie.
        dataset = load_dataset(data, data_root=found.data_root)
        make_folder(options.out)
        number = export_cams(artifact, dataset, options.out, form=form)
        contents = f"Class activation maps of {number} images ({form})."
    else:
        if options.format is not None:
            raise ValueError(
                f"--format is {options.format}, but {options.stage} has label maps, which are "
                "PNGs; expected the stage cam, whose maps have formats"
            )
        make_folder(options.out)
        number = export_labels(artifact, options.out)
        contents = f"Label maps of {number} images: PNGs whose pixels are labels."
    classes = load_classes(data)
    write_readme(options.out, manifest, classes, field=options.stage, contents=contents)
    print(f"{options.out}: {contents}")
