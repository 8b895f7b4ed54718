"""`python -m analysis effects EXPERIMENT`: main effects, interactions and importance of the knobs."""

import argparse

from analysis.commands.arguments import Commands, add_command
from analysis.read.mlflow import load
from analysis.table.grid import passages_markdown


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "effects",
        of_knobs,
        help_="main effects, interactions and importance of the knobs",
    )
    parser.add_argument("--metric", default="pseudo/miou", help="the score (default: %(default)s)")


def of_knobs(options: argparse.Namespace) -> int:
    """Print what the knobs do to a score."""
    # statsmodels and Optuna take seconds to import, which no other command should wait for
    from analysis.studies.effects import effects, effects_passages

    trials = load(options.experiment, tracking=options.tracking)
    print(passages_markdown(effects_passages(effects(trials, metric=options.metric))))
    return 0
