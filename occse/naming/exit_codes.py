"""Exit codes of all command lines of the project, and the errors that each of them stands for."""

from enum import IntEnum


class ExitCode(IntEnum):
    """End of a command, as a shell and other programs see it."""

    #: All is well.
    WELL = 0
    #: Something failed or is stale: a stage, a check, a server that does not answer.
    FAILED = 1
    #: A file, a knob or an option is not as expected. argparse ends a command with this code too.
    BAD_INPUT = 2
    #: A signal ended the command. A shell reports 128 and the number of SIGINT.
    STOPPED = 130
    #: Nobody reads the output any more. A shell reports 128 and the number of SIGPIPE.
    READER_LEFT = 141


# A path that the user gave does not exist. Other OSErrors, such as a full disk, are failures.
WRONG_PATHS = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def code_of(error: Exception) -> ExitCode:
    """Return the exit code of a command that ended with `error`."""
    bad_input = isinstance(error, (ValueError, *WRONG_PATHS))
    return ExitCode.BAD_INPUT if bad_input else ExitCode.FAILED
