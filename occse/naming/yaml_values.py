"""Types of plain YAML values: those on which YAML 1.1 and 1.2 agree."""

import math
import re

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
DECIMAL = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
CONSTANTS = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    # no knob takes these, and its own message says so better than one about YAML
    ".inf": math.inf,
    "-.inf": -math.inf,
    ".nan": math.nan,
}
# Python converts numbers of thousands of digits slowly; no knob has more than these.
MAX_DIGITS = 80
STRING = "tag:yaml.org,2002:str"


def plain_value(text: str, tag: str) -> str | int | float | None:
    """Return the value of a scalar without quotes, typed as YAML 1.2 types it.

    Args:
        text: of the scalar.
        tag: of PyYAML, which follows YAML 1.1.

    Raises:
        ValueError: YAML 1.1 and 1.2 read it differently (`010`, `1:30`, `yes`, `2024-01-01`).
    """
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text)
    if DECIMAL.fullmatch(text) and len(text) <= MAX_DIGITS:
        return float(text)
    # YAML 1.1 sees more than text in it.
    if tag != STRING:
        meaning = tag.rpartition(":")[2]
        raise ValueError(
            f"is not a plain value: YAML 1.1 reads it as {meaning}; "
            "expected a decimal number, true, false or null, or text in quotes"
        )
    return text
