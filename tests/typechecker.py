"""The run-time type check of the tests: an int is a float, as in the typing rules.

A bare machine that runs the GPU tests may lack beartype: there numbers are compared, not shapes.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

if find_spec("beartype"):
    from beartype import BeartypeConf, beartype

    typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
else:

    def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
        return function
