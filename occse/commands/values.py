"""Values of options: devices, counts, numbers and ports, each with an error that says more."""

import argparse
import math
import re

# Devices of torch that stages know how to use.
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
# A port has 16 bits.
MAX_PORT = 65_535


def add_device(command: argparse.ArgumentParser) -> None:
    """Declare `--device`."""
    command.add_argument(
        "--device",
        type=_device_name,
        help="cpu, cuda or cuda:N (default: cuda if torch can use a GPU, else cpu)",
    )


def chosen_device(options: argparse.Namespace) -> str:
    """Return the device of `--device`, or the default one.

    Raises:
        ValueError: torch cannot use that GPU.
    """
    import torch

    usable = torch.cuda.device_count()
    chosen: str = options.device or ("cuda" if usable else "cpu")
    _, _, index = chosen.partition(":")
    if chosen != "cpu" and int(index or 0) >= usable:
        raise ValueError(f"--device {chosen}: expected one of the {usable} GPUs of torch, or cpu")
    return chosen


def _device_name(text: str) -> str:
    """Return the name of a device as it is."""
    if not DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, got {text!r}")
    return text


def positive(text: str) -> int:
    """Return the whole number in `text`, which must be 1 or more."""
    return _count(text, least=1)


def natural(text: str) -> int:
    """Return the whole number in `text`, which must be 0 or more."""
    return _count(text, least=0)


def above_0(text: str) -> float:
    """Return the number in `text`, which must be above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def at_least_0(text: str) -> float:
    """Return the number in `text`, which must not be negative."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got {text!r}")
    return number


def port(text: str) -> int:
    """Return the number of a port in `text`."""
    if not text.isdecimal() or not 0 < int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to {MAX_PORT}, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Refused by all callers.
        return math.nan


def _count(text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a count of at least {least}, got {text!r}")
    return int(text)
