"""`python -m analysis table EXPERIMENT`: the results of a sweep, from MLflow."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.latex import latex
from analysis.load import load
from analysis.render import markdown, to_csv
from analysis.tables import METRICS, build

FORMATS = {"markdown": markdown, "latex": latex, "csv": to_csv}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 1 where the table cannot be made."""
    options = _parser().parse_args(arguments)
    try:
        table = build(load(options.experiment, tracking=options.tracking), metrics=options.metric)
        text = FORMATS[options.format](table)
        if options.out is None:
            print(text, end="")
        else:
            options.out.write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Results of sweeps, read from MLflow.")
    table = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "table", help="mean and standard deviation over seeds, one row per variant"
    )
    table.add_argument("experiment", help="name of the sweep")
    table.add_argument("--tracking", metavar="URI", help="default: MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db")
    table.add_argument("--format", choices=sorted(FORMATS), default="markdown")
    table.add_argument("--metric", nargs="+", default=(), metavar="NAME", help=f"columns; default: {' '.join(METRICS)}")
    table.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
