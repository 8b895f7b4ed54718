"""Words of a command line before and behind its options."""

import pytest

from occse.naming.any_order import AnyOrderParser


def parser() -> AnyOrderParser:
    top = AnyOrderParser()
    command = top.add_subparsers(required=True).add_parser("control")
    command.add_argument("name")
    command.add_argument("actions", nargs="*", choices=("pause", "resume", []))
    command.add_argument("--store")
    return top


@pytest.mark.parametrize(
    "words",
    ["s pause --store a", "s --store a pause", "--store a s pause", "--store=a s pause"],
)
def test_words_and_options_come_in_any_order(words: str) -> None:
    found = parser().parse_args(["control", *words.split()])
    assert (found.name, found.actions, found.store) == ("s", ["pause"], "a")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("s --stroe a", "unrecognized arguments: --stroe"),
        ("s --store a stop", "invalid choice: 'stop'"),
        ("--store a", "the following arguments are required: name"),
    ],
)
def test_words_that_are_none_are_refused(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["control", *words.split()])
    assert said in capsys.readouterr().err
