"""The run-time type check of the tests: an int is a float, as in the typing rules."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
