"""JSON that other programs wrote: tags, params and files of a run."""

import json
from typing import Any


def parse_json(text: str) -> Any:  # noqa: ANN401 - JSON has every kind of value
    """Return the value that a JSON text holds.

    Raises:
        ValueError: it is not JSON, or nested deeper than Python's parser can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply; expected a few levels") from None
