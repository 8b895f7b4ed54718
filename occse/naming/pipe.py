"""Standard output whose reader goes away before the end, as `head` does."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from occse.naming.exit_codes import ExitCode


def with_reader(command_line: Callable[[], int]) -> int:
    """Run a command line, print all that it has to say, and return its exit code.

    Raises:
        SystemExit: READER_LEFT in silence where nobody reads the output any more, or FAILED with a
            message where the output cannot be written for another reason, such as a full disk.
    """
    try:
        return command_line()
    except BrokenPipeError as error:
        if not reader_left(error):
            raise
        return ExitCode.READER_LEFT
    finally:
        _flush()


def reader_left(error: OSError) -> bool:
    """Tell whether an error means that nobody reads standard output or errors any more.

    A server can break a connection of its own with the same error.
    """
    return isinstance(error, BrokenPipeError) and any(map(_is_broken, (sys.stdout, sys.stderr)))


def _is_broken(stream: TextIO) -> bool:
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream of a test has none
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    events = [event for _, event in poll.poll(0)]
    return any(event & (select.POLLERR | select.POLLHUP) for event in events)


def _flush() -> None:
    """Print what is left: Python does so after its end, and tells of a failure in its own words."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError as error:
        is_left = reader_left(error)
        if not is_left:
            with suppress(OSError):
                sys.stderr.write(f"error: the output cannot be written: {error}\n")
        _discard()
        sys.exit(ExitCode.READER_LEFT if is_left else ExitCode.FAILED)


def _discard() -> None:
    """Send what Python still has to print nowhere, so that it does not fail again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
