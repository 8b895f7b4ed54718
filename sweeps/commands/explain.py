"""`python -m sweeps explain SPEC [TRIAL] [STAGE]`: the reason why a stage runs or not."""

import argparse

from sweeps.commands.arguments import Commands, add_spec, add_store, read_sweep


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "explain", help="why a stage runs or not: how the nearest artifact in the store differs"
    )
    add_spec(parser)
    parser.add_argument(
        "trial", nargs="?", help="a trial's number, or a part of its name that no other trial has"
    )
    parser.add_argument("stage", nargs="?", help="a stage of that trial")
    add_store(parser)
    parser.set_defaults(command=explain)


def explain(options: argparse.Namespace) -> int:
    """Print why the stages of a sweep are in the store or not."""
    from sweeps.plan.explain import (
        Explainer,
        choose_trial,
        explain_stage,
        explain_sweep,
        explain_trial,
    )
    from sweeps.selection.study import suggested
    from sweeps.store.store import Store
    from sweeps.tracking.names import TrialNames

    spec, found = read_sweep(options)
    store = Store(options.store)
    found += suggested(spec, store=store, first=len(found))
    explainer = Explainer(found, store.manifests())
    if options.trial is None:
        print(explain_sweep(found, explainer))
        return 0
    trial = choose_trial(found, options.trial, short_name=TrialNames(spec, found).of)
    if options.stage is None:
        print(explain_trial(trial, explainer))
    else:
        print(explain_stage(trial, options.stage, explainer))
    return 0
