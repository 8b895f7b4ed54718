"""The walked examples of CONTRIBUTING.md, executed as they stand there in a copy of the package."""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import SMALL

from occse.data.layouts.voc import write_label_map

ROOT = Path(__file__).parent.parent
PAGE = ROOT / ".github" / "CONTRIBUTING.md"
# An HTML comment that says what the fenced block below it is, then the block.
BLOCK = re.compile(
    r"(?:<!-- (edit|file) (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass
class Example:
    """One "How to add ..." section: what it writes, and the command that it ends with."""

    title: str
    edits: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def examples() -> dict[str, Example]:
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if not title.startswith("How to add "):
            continue
        example = found[title] = Example(title)
        for kind, path, language, body in BLOCK.findall(text):
            if kind == "edit":
                example.edits.append((path, body))
            elif kind == "file":
                example.files.append((path, body))
            elif language == "sh":
                example.commands += body.splitlines()
    return found


def edited(text: str, edit: str, *, path: str) -> str:
    """Apply the parts of a diff, which are parted by `@@`, each at the only place where it fits."""
    for part in edit.split("@@\n"):
        lines = part.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"{path} has {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


def write_photos(folder: Path) -> None:
    """Draw four photographs in the layout of the data example."""
    rng = np.random.default_rng(0)
    (folder / "masks").mkdir(parents=True)
    for split in ("train", "val"):
        for index, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / name / f"{split}_{name}.png")
            mask = np.full((40, 50), index + 1, np.uint8)
            write_label_map(folder / "masks" / f"{split}_{name}.png", mask)


def test_contributing_has_an_example_of_each_kind() -> None:
    added = [title.removeprefix("How to add ") for title in examples()]
    assert added == [
        "a knob",
        "an erasing mode",
        "a backbone",
        "a data layout",
        "a stage",
        "parts without a fork",
    ]


@pytest.mark.parametrize("title", examples())
def test_contributing_example_works(title: str, own_store: Path, tmp_path: Path) -> None:
    example = examples()[title]
    shutil.copytree(ROOT / "occse", tmp_path / "occse")
    for path, text in example.files:
        assert not (tmp_path / path).exists(), f"{path} is there already"
        (tmp_path / path).write_text(text)
    for path, edit in example.edits:
        text = (tmp_path / path).read_text()
        (tmp_path / path).write_text(edited(text, edit, path=path))
    write_photos(tmp_path / "photos")
    made = len(list(own_store.glob("[A-Z]*/*/manifest.json")))
    (command,) = example.commands
    variables = dict(re.findall(r"^(\w+)=(\S+) ", command))
    words = shlex.split(command)[len(variables) :]
    if "embedded" in words:
        # So few images that the example takes seconds; what is upstream comes from the store.
        first = words.index("embedded") + 1
        for knob, value in SMALL.items():
            words[first:first] = ["--set", f"{knob}={value}"]
    done = subprocess.run(
        [sys.executable, *words[1:], "--store", str(own_store)],
        cwd=tmp_path,
        env=variables
        | {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(own_store.glob("[A-Z]*/*/manifest.json"))) == made + 1, done.stdout
