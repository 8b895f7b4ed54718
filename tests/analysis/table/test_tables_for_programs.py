"""CSV and XLSX as programs and spreadsheets read them."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook
from scipy import stats

from analysis.read.mlflow import load
from analysis.table.build import build
from analysis.table.formats.csv_file import to_csv
from analysis.table.formats.xlsx import xlsx
from analysis.table.spec import TableSpec

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
CAM = TableSpec(metrics=("cam/miou",))


def test_csv_has_intervals_of_seeds_and_no_formulas(record: Record, tracking: str) -> None:
    values = (0.50, 0.52, 0.57)
    for seed, value in enumerate(values):
        record("for programs", "=1+1", seed=seed, metrics={"cam/miou": value}, fields=("cam",))
    table = build(load("for programs", tracking=tracking), CAM)
    (line,) = csv.DictReader(io.StringIO(to_csv(table)))
    assert line["variant"] == "'=1+1"
    reach = stats.t.ppf(0.975, 2) * 100 * np.std(values, ddof=1) / 3**0.5
    assert float(line["high"]) - float(line["mean"]) == pytest.approx(reach)
    assert float(line["mean"]) - float(line["low"]) == pytest.approx(reach)
    assert (line["unit"], line["baseline"]) == ("%", "false")


def test_csv_and_xlsx_hold_numbers_and_knobs_for_programs(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    variants = {"oc": {"cam.source": "oc"}}
    for weight in (0.5, 10):
        params = {"cam.source": "cgnet", "cgnet.lambda_start": str(weight), "cgnet.draw": "uniform"}
        variants[f"=lambda {weight}"] = params
    for order, (variant, params) in enumerate(variants.items()):
        for seed in range(3 if order else 1):
            record(
                "twins",
                variant,
                order=order,
                seed=seed,
                params=params,
                metrics={"cam/miou": 0.5 + 0.01 * seed},
                fields=("cam",),
                tags={"occse.baseline": str(order == 0).lower()},
            )
    record("twins", "late", order=3, status="RUNNING", fields=("cam",))
    table = build(load("twins", tracking=tracking), CAM)
    (tmp_path / "table.xlsx").write_bytes(xlsx(table))
    from_csv = pd.read_csv(io.StringIO(to_csv(table)))
    from_xlsx = pd.read_excel(tmp_path / "table.xlsx", sheet_name="data")
    # the spreadsheet knows texts from formulas, so it needs no apostrophe
    assert from_csv["variant"].tolist() == ["oc", "'=lambda 0.5", "'=lambda 10", "late"]
    assert from_xlsx["variant"].tolist() == ["oc", "=lambda 0.5", "=lambda 10", "late"]
    texts = ["variant", "row_label"]
    pd.testing.assert_frame_equal(
        from_csv.drop(columns=texts), from_xlsx.drop(columns=texts), check_dtype=False
    )
    for frame in (from_csv, from_xlsx):
        assert frame["cgnet.lambda_start"].tolist()[1:3] == [0.5, 10]
        assert frame["baseline"].tolist() == [True, False, False, False]
        numbers = frame[["cgnet.lambda_start", "mean", "std", "n", "planned", "low", "high"]]
        assert all(pd.api.types.is_numeric_dtype(kind) for kind in numbers.dtypes)
    # every variant that has it has the same
    assert "cgnet.draw" not in from_csv
    book = load_workbook(tmp_path / "table.xlsx")
    for sheet in (book["table"], book["data"]):
        texts = [cell.value for row in sheet.iter_rows(min_row=2) for cell in row]
        texts = [text for text in texts if isinstance(text, str)]
        assert not [text for text in texts if re.fullmatch(r"[-+]?[\d.]+", text)]
        assert not [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
