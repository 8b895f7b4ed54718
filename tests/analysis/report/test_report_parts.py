"""Parts of a report by themselves: costs, sheets, and a PDF where LaTeX is missing or at fault."""

import shutil
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from analysis.report.blocks import Section
from analysis.report.sections.costs import stage_costs
from analysis.report.tex import compile_pdf
from analysis.report.write import workbook, write_report
from analysis.table.grid import Grid, GridCell, cell


def test_an_artifact_of_two_fields_costs_once_in_a_trial_too() -> None:
    rows = [
        {"run_id": run, "seconds.crf": 10.0, "seconds.crf_low": 10.0}
        | {"fingerprint.crf": f"crf {run}", "fingerprint.crf_low": f"crf {run}"}
        for run in ("a", "b")
    ]
    costs = stage_costs(pd.DataFrame(rows))
    told = [(cost.stage, cost.artifacts, cost.uses, cost.once_s, cost.each_s) for cost in costs]
    assert told == [("crf", 2, 2, 20.0, 20.0), ("crf_low", 0, 2, 0.0, 0.0)]


def test_without_pdflatex_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = Section(
        key="a", title="A", blocks=[Grid(name="g", caption="c", heads=["h"], rows=[[cell("1")]])]
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    *_, last = write_report("t", [section], tmp_path / "out", made=datetime.now(UTC))
    assert "report.pdf: no PDF, since there is no pdflatex here" in last
    assert not (tmp_path / "out" / "report.pdf").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_a_fault_of_latex_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tex").write_text(
        r"\documentclass{article}\begin{document}\nothing\end{document}"
    )
    assert (
        compile_pdf(tmp_path / "a.tex")
        == "pdflatex cannot compile a.tex: ! Undefined control sequence."
    )


def test_sheets_have_names_that_excel_takes() -> None:
    long = "results of an experiment whose name is long"
    grids = [
        Grid(name=name, caption="", heads=["a"], rows=[[GridCell(text="1")]])
        for name in (f"{long}, first", f"{long}, second", "short", "Short")
    ]
    names = openpyxl.load_workbook(BytesIO(workbook(grids))).sheetnames
    assert len({name.lower() for name in names}) == len(grids)
    assert max(map(len, names)) <= 31
    assert names[2] == "short"
