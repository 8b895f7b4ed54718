"""`python -m analysis COMMAND EXPERIMENT`: the results of a sweep, from MLflow."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.compare import compare, comparison_text
from analysis.latex import latex
from analysis.load import load
from analysis.plots import erasure_figure
from analysis.render import markdown, to_csv
from analysis.tables import METRICS, build

FORMATS = {"markdown": markdown, "latex": latex, "csv": to_csv}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 1 where the table cannot be made."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def table(options: argparse.Namespace) -> None:
    """Print the table, or write it to a file."""
    built = build(load(options.experiment, tracking=options.tracking), metrics=options.metric)
    text = FORMATS[options.format](built)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")


def differences(options: argparse.Namespace) -> None:
    """Print every variant's difference from the baseline with its uncertainty."""
    trials = load(options.experiment, tracking=options.tracking)
    print(comparison_text(compare(trials, options.stage, tracking=options.tracking), options.stage))


def erasures(options: argparse.Namespace) -> None:
    """Draw the recursive experiment's curves."""
    erasure_figure(options.experiment, tracking=options.tracking).savefig(options.out, dpi=150)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Results of sweeps, read from MLflow.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_table(commands.add_parser("table", help="mean and standard deviation over seeds, one row per variant"))
    difference = commands.add_parser("compare", help="differences from the baseline, with interval and p-value")
    _add_experiment(difference, differences)
    difference.add_argument("--stage", default="cam", help="a scored stage: cam (default), crf, pseudo, seg")
    figure = commands.add_parser("erasures", help="figure: erasing again and again with the ordinary classifier")
    _add_experiment(figure, erasures)
    figure.add_argument("--out", type=Path, required=True, metavar="FILE", help="a PNG, PDF or SVG file")
    return parser


def _add_experiment(command: argparse.ArgumentParser, function: Callable[[argparse.Namespace], None]) -> None:
    command.set_defaults(command=function)
    command.add_argument("experiment", help="name of the sweep")
    command.add_argument(
        "--tracking", metavar="URI", help="default: MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db"
    )


def _add_table(command: argparse.ArgumentParser) -> None:
    _add_experiment(command, table)
    command.add_argument("--format", choices=sorted(FORMATS), default="markdown")
    command.add_argument(
        "--metric", nargs="+", default=(), metavar="NAME", help=f"columns; default: {' '.join(METRICS)}"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")


if __name__ == "__main__":
    sys.exit(main())
