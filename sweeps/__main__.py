"""`python -m sweeps COMMAND`: plan a sweep, run it, and ask about it. Each command is a file in
`sweeps/commands`.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from occse.artifacts.secrets import masked_command, shown
from sweeps.commands import (
    artifacts,
    doctor,
    explain,
    import_,
    mlflow,
    plan,
    reproduce,
    run,
    schema,
    status,
    store,
)
from sweeps.commands.arguments import python
from sweeps.driver.interrupt import exit_on_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 when all is well, 1 when a trial failed or could not be recorded, 2 when the input is bad.
    """
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    options.again = masked_command([python(), "-m", "sweeps", *words])
    try:
        code: int = options.command(options)
    except (ValueError, OSError) as error:
        print(shown(str(error)), file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit):  # see exit_on_signals
        with suppress(OSError):  # the terminal may be the reason
            print(f"stopped; to go on: {options.again}", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sweeps", description="Ablations of the whole pipeline."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    every = (plan, explain, run, status, reproduce, import_, mlflow, store, doctor, schema)
    for command in (*every, artifacts):
        command.add(commands)
    return parser


if __name__ == "__main__":
    exit_on_signals()
    sys.exit(main())
