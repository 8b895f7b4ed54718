"""The rule by which passwords are masked, in the platform and in the analysis."""

import pytest

from analysis.read import secrets as of_analysis
from occse.artifacts import secrets as of_occse

SECRET = "s3cr3t"
TEXTS = {
    f"http://user:{SECRET}@host:5000/path": "http://user:***@host:5000/path",
    f"API request to https://user:{SECRET}@host/api failed": (
        "API request to https://user:***@host/api failed"
    ),
    f"https://{SECRET}@host/": "https://***@host/",
    f"postgresql+psycopg2://user:{SECRET}@host/db": "postgresql+psycopg2://user:***@host/db",
    f"postgresql://user:a@b:{SECRET}/x@host/db": "postgresql://user:***@host/db",
    f"POSTGRESQL://user:{SECRET}@host": "POSTGRESQL://user:***@host",
    f"mysql://host/db?user=me&password={SECRET}&ssl=1": (
        "mysql://host/db?user=me&password=***&ssl=1"
    ),
    f"s3://bucket?aws_secret={SECRET}": "s3://bucket?aws_secret=***",
    f"http://:{SECRET}@host": "http://:***@host",
    f"two http://a:{SECRET}@x http://b:{SECRET}@y": "two http://a:***@x http://b:***@y",
    "postgresql://user@host/db": "postgresql://user@host/db",
    "sqlite:////home/me/mlflow.db?timeout=60": "sqlite:////home/me/mlflow.db?timeout=60",
    "http://127.0.0.1:5000/#/experiments": "http://127.0.0.1:5000/#/experiments",
    "mail me@example.org": "mail me@example.org",
}


@pytest.mark.parametrize("module", [of_occse, of_analysis], ids=["occse", "analysis"])
@pytest.mark.parametrize("text", TEXTS)
def test_masked_text_has_no_secret_and_all_the_rest(text: str, module: object) -> None:
    masked = module.masked(text)  # type: ignore[attr-defined]
    assert masked == TEXTS[text]
    assert masked == module.masked(masked)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [of_occse, of_analysis], ids=["occse", "analysis"])
def test_masked_command_is_quoted_as_a_person_types_it(module: object) -> None:
    words = ["python", "-m", "sweeps", "--tracking", f"http://me:{SECRET}@ml", "--name", "a b"]
    expected = "python -m sweeps --tracking 'http://me:***@ml' --name 'a b'"
    assert module.masked_command(words) == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [of_occse, of_analysis], ids=["occse", "analysis"])
def test_parser_repeats_no_secret_of_an_argument_that_it_refuses(
    module: object, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = module.Parser()  # type: ignore[attr-defined]
    commands = parser.add_subparsers()
    commands.add_parser("run")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["run", "--tracking", f"http://user:{SECRET}@host\x1b[2J"])
    error = capsys.readouterr().err
    assert "http://user:***@host" in error
    assert SECRET not in error
    assert "\x1b" not in error
