"""Files that are no sweeps, and sweeps that nobody writes by accident."""

from pathlib import Path

import pytest

from sweeps.spec.trials import load_spec

HEAD = "name: s\nquestion: why?\n"


def refusal(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        load_spec(path)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("name", ["..", ".", ".hidden"])
def test_name_of_a_sweep_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, f"name: {name}\nquestion: q\nbaseline: {{}}\n")
    assert said.startswith("spec.yaml:1: name: String should match pattern")


@pytest.mark.parametrize(
    "text",
    [
        f"baseline: {{}}\n{'x' * 900_000}: 1\n",
        f"base: {{cam.source: {'x' * 900_000}}}\n",
        f"baseline: {{}}\ntargets: [{'x' * 900_000}]\n",
        f"baseline: {{}}\nconstraints: ['{'(' * 900_000}']\n",
        "base:\n" + "".join(f"  oc.knob{index}: 1\n" for index in range(1_000)),
    ],
    ids=["key", "value", "stage", "expression", "many faults"],
)
def test_error_about_a_huge_file_is_short(text: str, tmp_path: Path) -> None:
    assert len(refusal(tmp_path, HEAD + text)) < 20_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "spec.yaml:1: expected a mapping such as `name: lambda`, got an empty file"),
        ("- a\n", "spec.yaml:1: expected a mapping such as `name: lambda`, got a list"),
        (
            "name: s\nbaseline: {}\n",
            "spec.yaml:1: question: this key is missing; a sweep has name, question",
        ),
        (
            "question: ' '\nname: a b\nbaseline: {}\n",
            "spec.yaml:2: name: String should match pattern",
        ),
        (HEAD.encode() + b"expect: \xff\n", "spec.yaml:3: the file is not UTF-8 text"),
        (b"#" * 1_000_001, "spec.yaml:1: the file is above 1,000,000 bytes"),
    ],
)
def test_file_that_is_no_sweep_is_refused(text: str | bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read: No such file"):
        load_spec(tmp_path / "none.yaml")
