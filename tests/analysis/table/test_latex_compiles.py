"""Tables of `analysis table --format latex` go through a real LaTeX."""

import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from analysis.read.mlflow import load
from analysis.table.build import build
from analysis.table.formats.latex import SMALLER, latex, typeset
from analysis.table.formats.latex_letters import escape, needs_t1
from analysis.table.spec import Best, TableSpec

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
    ),
    pytest.mark.skipif(
        shutil.which("pdflatex") is None,
        reason="pdflatex is not installed (Debian: texlive-latex-base, texlive-science)",
    ),
]

Record = Callable[..., str]
STAGES = ("cam", "crf", "pseudo", "seg")
# The fonts and the page of CVPR's author kit, and the tables at their places.
DOCUMENT = r"""\documentclass[10pt,twocolumn,letterpaper]{article}
\usepackage{times,booktabs,graphicx,siunitx}
\setlength{\textwidth}{6.875in}\setlength{\columnsep}{0.3125in}\setlength{\textheight}{8.875in}
\begin{document}
%s
\end{document}
"""
LETTERS = r"""\documentclass{article}
\usepackage[%s]{fontenc}
\begin{document}
%s
\end{document}
"""
HOSTILE = "*.seed={1} & 50% #2 a_b ~x^2 $ \\n [x] <y>|z «é» ± × · λ=1 猫"
COMPLAINTS = re.compile(
    r"^! |Missing character|Undefined|Overfull|LaTeX Warning: (?!Label|Reference)|Warning: Option",
    re.MULTILINE,
)


def compiled(folder: Path, source: str) -> str:
    """Compile a document and return its log, after a look at it for complaints."""
    (folder / "document.tex").write_text(source, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    done = subprocess.run(
        ["pdflatex", *options, "document.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    log = (folder / "document.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert not COMPLAINTS.search(log), log
    return log


@pytest.fixture(scope="module")
def quickstart(record: Record, tracking: str) -> pd.DataFrame:
    """The variants of the quickstart, two seeds each, with the scores of a real run."""
    variants = {
        "source=oc": {"cam.source": "oc"},
        **{
            f"source=cgnet, erasing={erasing}, lambda_start={weight}": {
                "cam.source": "cgnet",
                "cgnet.erasing": erasing,
                "cgnet.lambda_start": str(weight),
            }
            for erasing, weight in product(("class_agnostic", "cse"), (1, 10))
        },
    }
    for order, (variant, params) in enumerate(variants.items()):
        for seed in (0, 1):
            scores = {f"{stage}/miou": 0.5 + 0.03 * order + 0.02 * seed for stage in STAGES}
            scores |= {f"{stage}/miou_multi": 0.4 + 0.03 * order for stage in STAGES}
            record(
                "tex quickstart",
                variant,
                order=order,
                seed=seed,
                params=params,
                metrics=scores,
                tags={
                    "occse.baseline": str(order == 0).lower(),
                    "occse.pixel_truth": "cam.threshold on train",
                },
            )
    return load("tex quickstart", tracking=tracking)


def test_default_table_fits_a_column_and_a_wide_one_the_page(
    quickstart: pd.DataFrame, tmp_path: Path
) -> None:
    default = typeset(build(quickstart))
    metrics = tuple(f"{stage}/{name}" for stage in STAGES for name in ("miou", "miou_multi"))
    wide = typeset(build(quickstart, TableSpec(metrics=metrics)))
    assert default.warning == ""
    assert wide.warning.startswith("For the whole page (table*)")
    (tmp_path / "default.tex").write_text(default.text, encoding="utf-8")
    (tmp_path / "wide.tex").write_text(wide.text, encoding="utf-8")
    log = compiled(
        tmp_path,
        DOCUMENT
        % (
            r"\begin{table}\centering\input{default}\end{table}"
            r"\begin{table*}\centering\input{wide}\end{table*}"
        ),
    )
    assert SMALLER not in log


def test_table_without_room_is_made_smaller_and_says_so(
    quickstart: pd.DataFrame, tmp_path: Path
) -> None:
    metrics = tuple(f"{stage}/{name}" for stage in STAGES for name in ("miou", "miou_multi"))
    spec = TableSpec(metrics=metrics, delta="baseline")
    made = typeset(build(quickstart, spec), "column")
    assert re.match(r"Made smaller to \d\d percent of \\footnotesize: it is about", made.warning)
    (tmp_path / "wide.tex").write_text(made.text, encoding="utf-8")
    log = compiled(tmp_path, DOCUMENT % r"\begin{table}\centering\input{wide}\end{table}")
    assert SMALLER in log


def test_names_become_columns_of_knobs_where_room_is_short(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    values = product(("cse", "class_agnostic"), (0.25, 0.5), (1, 10))
    for order, (erasing, threshold, weight) in enumerate(values):
        params = {
            "cgnet.erasing": erasing,
            "cgnet.mask_threshold": str(threshold),
            "cgnet.lambda_start": str(weight),
        }
        name = f"erasing={erasing}, mask_threshold={threshold}, lambda_start={weight}"
        for seed in (0, 1):
            record(
                "split",
                name,
                order=order,
                seed=seed,
                params=params,
                fields=STAGES[:3],
                metrics={f"{stage}/miou": 0.5 + 0.02 * seed for stage in STAGES[:3]},
            )
    made = typeset(build(load("split", tracking=tracking)), "column")
    assert r"erasing & \shortstack{mask\\threshold} & $\lambda$ & " in made.text
    assert r"class-agnostic & 0.5 & 10 & " in made.text
    (tmp_path / "split.tex").write_text(made.text, encoding="utf-8")
    log = compiled(tmp_path, DOCUMENT % r"\begin{table}\centering\input{split}\end{table}")
    assert SMALLER not in log


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
    tables = "".join(
        rf"\begin{{table*}}\centering\input{{{name}}}\caption{{All}}\end{{table*}}"
        for name in ("plain", "best")
    )
    compiled(tmp_path, DOCUMENT % tables)
    assert (tmp_path / "document.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("encoding", ["OT1", "T1"])
def test_every_letter_that_is_not_told_by_its_code_is_set(tmp_path: Path, encoding: str) -> None:
    letters = [
        chr(code) for code in (*range(0xA1, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x2300))
    ]
    sources = {letter: escape(letter) for letter in letters if letter.isprintable()}
    known = {letter: source for letter, source in sources.items() if "U+" not in source}
    if encoding == "OT1":
        known = {letter: source for letter, source in known.items() if not needs_t1(source)}
    assert set("ßæøåœµ°łığšžčñçéàïüÆØÅŒẞαβλΩ±×≤≥→∞€£") <= known.keys()
    compiled(tmp_path, LETTERS % (encoding, "\n\n".join(known.values())))
    assert escape("猫") == "{[}U+732B{]}"
