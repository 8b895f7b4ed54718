"""`python -m analysis COMMAND EXPERIMENT`: the results of a sweep. Each command is a file in
`analysis/commands`.
"""

import argparse
import sys
from collections.abc import Sequence

from analysis.commands import (
    compare,
    correlation,
    effects,
    export,
    figure,
    pareto,
    report,
    table,
    variance,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 1 where the command cannot answer."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis", description="Results of sweeps, read from MLflow."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (report, table, compare, variance, effects, correlation, pareto, figure, export):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
