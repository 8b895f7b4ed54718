import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis.__main__ import main
from analysis.figures.erasures import erasure_figure
from analysis.figures.style import save
from analysis.read.mlflow import load

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
CURVES = {"miou": (0.5, 0.4, 0.2), "covered": (0.3, 0.6, 0.7), "false_activation": (0.2, 0.4, 0.8)}


@pytest.fixture(scope="module")
def experiment(record: Record, tracking: str) -> str:
    """Two variants, one of them with two seeds whose values are 0.1 apart."""
    client = MlflowClient(tracking)
    for order, (variant, seed) in enumerate([("soft", 0), ("soft", 1), ("hard", 0)]):
        run = record("erased", variant, order=order, seed=seed, fields=("erase_and_infer", "cam"))
        points = [
            Metric(f"erase_and_infer/{name}", value + 0.1 * seed, 1, erasures)
            for name, values in CURVES.items()
            for erasures, value in enumerate(values)
        ]
        client.log_batch(run, [*points, Metric("cam/miou", 0.55, 1, 0)])
    return "erased"


def texts(path: Path) -> list[str]:
    return [
        element.text or ""
        for element in xml.etree.ElementTree.parse(path).iter()
        if element.tag.endswith("text")
    ]


def test_the_figure_names_its_axes_its_variants_and_the_level_of_the_cams(
    experiment: str, tracking: str, tmp_path: Path
) -> None:
    save(
        erasure_figure(load(experiment, tracking=tracking), tracking=tracking),
        tmp_path / "figure.svg",
    )
    found = texts(tmp_path / "figure.svg")
    assert found.count("number of erasures") == 3
    assert "mIoU of the merged maps (%)" in found, "fonts stay text"
    for label in ("soft", "hard", "CAM mIoU"):
        assert found.count(label) == 1
    assert {"0", "1", "2"} <= set(found), "whole numbers of erasures"


def test_lines_are_means_over_seeds_in_bands_from_lowest_to_highest(
    experiment: str, tracking: str
) -> None:
    miou = erasure_figure(load(experiment, tracking=tracking), tracking=tracking).axes[0]
    by_label = {line.get_label(): line for line in miou.lines}
    assert list(by_label["soft"].get_xdata()) == [0, 1, 2]
    assert list(by_label["soft"].get_ydata()) == pytest.approx([55, 45, 25])
    assert list(by_label["hard"].get_ydata()) == pytest.approx([50, 40, 20])
    heights = miou.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((20, 60))
    assert by_label["soft"].get_color() != by_label["hard"].get_color()
    assert by_label["soft"].get_marker() != by_label["hard"].get_marker()


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_command_writes_the_format_that_the_name_says(
    suffix: str, start: bytes, experiment: str, tracking: str, tmp_path: Path
) -> None:
    path = tmp_path / f"figure.{suffix}"
    assert main(["figure", "erasures", experiment, "--tracking", tracking, "--out", str(path)]) == 0
    assert path.read_bytes().startswith(start)


def test_a_format_that_cannot_be_drawn_is_refused(
    experiment: str, tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "figure",
                "erasures",
                experiment,
                "--tracking",
                tracking,
                "--out",
                str(tmp_path / "figure.doc"),
            ]
        )
        == 2
    )
    assert "expected a file that ends in .pdf, .png, .svg" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_sweep_without_the_stage_is_refused_by_name(
    record: Record, tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("not erased", "oc", fields=("cam",), metrics={"cam/miou": 0.5})
    assert (
        main(
            [
                "figure",
                "erasures",
                "not erased",
                "--tracking",
                tracking,
                "--out",
                str(tmp_path / "figure.png"),
            ]
        )
        == 2
    )
    assert (
        "no curve erase_and_infer/miou; does the sweep target erase_and_infer?"
        in capsys.readouterr().err
    )
