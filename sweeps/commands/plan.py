"""`python -m sweeps plan SPEC`: what would run and why; writes nothing."""

import argparse

from sweeps.commands.arguments import Commands, add_spec, add_store, read_sweep
from sweeps.planning import describe, make_plan
from sweeps.store import Store


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("plan", help="what would run, and why")
    add_spec(parser)
    add_store(parser)
    parser.set_defaults(command=plan)


def plan(options: argparse.Namespace) -> int:
    """Print what a sweep would run and why."""
    spec, found = read_sweep(options)
    store = Store(options.store)
    durations = store.durations()
    print(describe(make_plan(found, has=store.__contains__, resources=spec.resources_of, durations=durations), spec))
    return 0
