"""One name for each thing in the answers of all studies, whatever it is called in the record."""

import re
from pathlib import Path

import pytest
from recorded import Record, record_sweep

from analysis.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

LABELS = r"""
cgnet.erasing=cse: Ours
cgnet.lambda_start: $\mu$
pseudo/miou: Mask score
seg/miou: Final score
cam.source=oc: Plain
"""
RAW = re.compile(r"\w+/miou|\bcgnet\.|\bcam\.|source=|erasing=|lambda_start|\bcse\b|\boc\b")
COMMANDS = (
    ("compare", "--stage", "seg"),
    ("compare", "--stage", "cam", "--variant", "Ours, μ=1"),
    ("compare", "--stage", "seg", "--where", "erasing=cse", "--against", "erasing=class_agnostic"),
    ("effects", "--metric", "seg/miou"),
    ("correlation",),
    ("variance", "--no-images"),
    ("pareto",),
)


@pytest.fixture(scope="module")
def sweep(record: Record, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("named")
    variants = {"source=oc": 0.0}
    params = {"source=oc": {"cam.source": "oc"}}
    for erasing in ("class_agnostic", "cse"):
        for strength in (1, 4):
            variant = f"source=cgnet, erasing={erasing}, lambda_start={strength}"
            variants[variant] = 0.02 * strength
            params[variant] = {
                "cam.source": "cgnet",
                "cgnet.erasing": erasing,
                "cgnet.lambda_start": str(strength),
            }
    record_sweep(record, tracking, folder, "one naming", variants=variants, params=params)
    return "one naming"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_studies_call_things_as_the_label_map_does(
    sweep: str,
    tracking: str,
    tmp_path: Path,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = tmp_path / "labels.yaml"
    labels.write_text(LABELS, encoding="utf-8")
    name, *options = command
    where = ["--labels", str(labels), "--tracking", tracking]
    assert main([name, sweep, *options, *where]) == 0
    # what a method is called by its own library is not a name of ours
    answer = capsys.readouterr().out.partition("Method:")[0]
    assert RAW.findall(answer) == []
    assert re.search("Ours|Final score", answer)
