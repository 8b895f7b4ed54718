"""Results of sweeps on the command line: `python -m analysis COMMAND EXPERIMENT`.

Each command is a file in `analysis/commands` with two functions: `declare` names its arguments, and
`run` does the work and returns the exit code. Only the command that is asked for is imported, since
pandas, MLflow and matplotlib take seconds that `--help` need not wait for.
`occse.naming.exit_codes` has the exit codes.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from analysis.read.secrets import Parser, shown
from occse.naming.exit_codes import ExitCode, code_of
from occse.naming.pipe import reader_left, with_reader
from occse.naming.terminal import print_anywhere

#: The commands and their line in `--help`, in the order of what a newcomer asks first.
COMMANDS = {
    "report": "everything in one HTML file, as LaTeX and as PDF",
    "table": "mean and standard deviation over seeds, in rows and columns of your choice",
    "compare": "differences from the baseline or between variants, with interval and p-value",
    "variance": "the share of a score's spread that comes from the seed of each stage",
    "effects": "main effects, interactions and importance of the knobs",
    "correlation": "rank correlation of the stages' scores, and the price of choosing by maps",
    "pareto": "cost against score, and the variants that no other variant beats",
    "figure": "a figure for a paper: curve, heatmap, classes, deltas, panels and others",
    "export": "all trials in one Parquet file, which every command reads in place of MLflow",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    print_anywhere()
    given = list(sys.argv[1:] if arguments is None else arguments)
    return with_reader(partial(_run, given))


def _run(given: Sequence[str]) -> int:
    options = _parser(given[0] if given else "").parse_args(given)
    try:
        code: int = options.run(options)
    # A `ConnectionError` is an OSError: a server that does not answer.
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and reader_left(error):
            raise
        print(f"error: {shown(str(error))}", file=sys.stderr)
        return code_of(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return ExitCode.STOPPED
    return code


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Return the parser of all commands, of which `chosen` alone knows its arguments."""
    parser = Parser(prog="python -m analysis", description="Results of sweeps, read from MLflow.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            module = import_module(f"analysis.commands.{name}")
            module.declare(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
