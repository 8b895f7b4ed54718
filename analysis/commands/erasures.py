"""`python -m analysis erasures EXPERIMENT --out FILE`: the figure of the recursive experiment."""

import argparse
from pathlib import Path

from analysis.commands.arguments import Commands, add_command
from analysis.plots import erasure_figure


def add(commands: Commands) -> None:
    """Declare the command."""
    help_ = "figure: erasing again and again with the ordinary classifier"
    parser = add_command(commands, "erasures", erasures, help_=help_)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a PNG, PDF or SVG file")


def erasures(options: argparse.Namespace) -> int:
    """Draw the recursive experiment's curves."""
    erasure_figure(options.experiment, tracking=options.tracking).savefig(options.out, dpi=150)
    return 0
