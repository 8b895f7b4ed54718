"""`python -m analysis compare EXPERIMENT`: differences from the baseline, with interval and p-value."""

import argparse

from analysis.commands.arguments import Commands, add_command
from analysis.compare import compare, comparison_text
from analysis.load import load


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "compare", differences, help_="differences from the baseline, with interval and p-value"
    )
    parser.add_argument("--stage", default="cam", help="a scored stage: cam (default), crf, pseudo, seg")


def differences(options: argparse.Namespace) -> int:
    """Print every variant's difference from the baseline with its uncertainty."""
    trials = load(options.experiment, tracking=options.tracking)
    print(comparison_text(compare(trials, options.stage, tracking=options.tracking), options.stage))
    return 0
