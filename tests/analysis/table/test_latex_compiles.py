"""Tables of `analysis table --format latex` go through a real LaTeX."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.read.mlflow import load
from analysis.table.build import build
from analysis.table.latex import latex
from analysis.table.spec import Best, TableSpec

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
    ),
    pytest.mark.skipif(
        shutil.which("pdflatex") is None,
        reason="pdflatex is not installed (Debian: texlive-latex-base)",
    ),
]

Record = Callable[..., str]
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage[margin=1cm,landscape]{geometry}
\begin{document}
\begin{table}\centering\footnotesize\input{plain}\caption{All}\end{table}
\begin{table}\centering\footnotesize\input{best}\caption{Best}\end{table}
\end{document}
"""
HOSTILE = "*.seed={1} & 50% #2 a_b ~x^2 $ \\n [x] <y>|z «é» ± × · λ=1 猫"


def test_tables_compile_without_a_complaint(record: Record, tracking: str, tmp_path: Path) -> None:
    truth = {"occse.pixel_truth": "cam.threshold on train", "occse.baseline": "true"}
    for seed in (0, 1):
        record(
            "tex",
            HOSTILE,
            seed=seed,
            params={"crf.alpha": "6.0"},
            metrics={"cam/miou": 0.5 + seed / 8},
            tags=truth,
        )
        record(
            "tex",
            "other",
            order=1,
            seed=seed,
            params={"crf.alpha": "4.0"},
            metrics={"cam/miou": 0.25, "crf/miou": 0.5},
        )
    record(
        "tex",
        "failed",
        order=2,
        status="FAILED",
        tags={"occse.failed": "cam", "occse.error": "out of memory\n%"},
    )
    record("tex", "gated", order=3, metrics={"cam/miou": 0.125}, tags={"occse.stopped": "cam"})
    record("tex", "leaf", order=4, status="RUNNING", fields=("cam",))
    trials = load("tex", tracking=tracking)
    spec = TableSpec(
        title="Is 50% enough?",
        rows=("variant",),
        best=Best(of=("alpha",), by="crf/miou"),
        delta="previous",
    )
    (tmp_path / "plain.tex").write_text(latex(build(trials)), encoding="utf-8")
    (tmp_path / "best.tex").write_text(latex(build(trials, spec)), encoding="utf-8")
    (tmp_path / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "document.tex",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    log = (tmp_path / "document.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert not re.search(
        r"^! |Missing character|Undefined|Overfull|LaTeX Warning: (?!Label|Reference)",
        log,
        re.MULTILINE,
    ), log
    assert (tmp_path / "document.pdf").read_bytes().startswith(b"%PDF")
