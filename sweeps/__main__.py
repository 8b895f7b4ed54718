"""`python -m sweeps COMMAND`: plan a sweep, run it, and ask about it. Each command is a file in `sweeps/commands`."""

import argparse
import sys
from collections.abc import Sequence

from sweeps.commands import plan, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 when all is well, 1 when a trial failed or could not be recorded, 2 when the input is bad.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps", description="Ablations of the whole pipeline.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (plan, run):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
