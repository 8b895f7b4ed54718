"""`python -m sweeps schema`: the JSON schema of a sweep's file, for editors."""

import argparse
import json

from sweeps.commands.arguments import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("schema", help="the JSON schema of a sweep's file, for editors")
    parser.set_defaults(command=schema)


def schema(_: argparse.Namespace) -> int:
    from sweeps.spec.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
