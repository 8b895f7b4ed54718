"""`python -m analysis table EXPERIMENT`: mean and standard deviation over seeds, one row per variant."""

import argparse
from pathlib import Path

from analysis.commands.arguments import Commands, add_command
from analysis.latex import latex
from analysis.load import load
from analysis.render import markdown, to_csv
from analysis.tables import METRICS, build

FORMATS = {"markdown": markdown, "latex": latex, "csv": to_csv}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(commands, "table", table, help_="mean and standard deviation over seeds, one row per variant")
    parser.add_argument("--format", choices=sorted(FORMATS), default="markdown")
    parser.add_argument(
        "--metric", nargs="+", default=(), metavar="NAME", help=f"columns; default: {' '.join(METRICS)}"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")


def table(options: argparse.Namespace) -> int:
    """Print the table, or write it to a file."""
    built = build(load(options.experiment, tracking=options.tracking), metrics=options.metric)
    text = FORMATS[options.format](built)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0
