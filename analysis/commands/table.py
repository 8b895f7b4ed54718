"""`python -m analysis table EXPERIMENT ...`: mean and standard deviation over seeds, in rows and
columns to choose.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from analysis.commands.arguments import (
    add_experiments,
    add_mlflow_pages,
    mlflow_pages,
    where_of,
)
from analysis.commands.output import say, say_written
from analysis.read.artifacts import counted_stages
from analysis.read.mlflow import load
from analysis.read.thresholds import with_thresholds
from analysis.read.yaml_file import SpecError, YamlFile
from analysis.table.build import build
from analysis.table.checks import check, provenance
from analysis.table.formats.csv_file import to_csv
from analysis.table.formats.html import html
from analysis.table.formats.latex import typeset
from analysis.table.formats.markdown import markdown
from analysis.table.formats.on_terminal import on_terminal
from analysis.table.formats.xlsx import xlsx
from analysis.table.model import Table
from analysis.table.spec import TableSpec, read_table_spec
from occse.naming.counts import number
from occse.naming.terminal import shows_styles

CUTS = (
    "cam/miou@0.3 is the score at that threshold, cam/miou@held-out-50 that of the other images "
    "at the best threshold of 50, cam/miou@best-without-50 that at their own best"
)
NAMES = {"markdown": "Markdown", "latex": "LaTeX", "csv": "CSV", "html": "HTML"}
FORMATS = (*NAMES, "xlsx")


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiments(parser)
    parser.add_argument(
        "--spec", type=Path, metavar="FILE", help="a YAML file with rows, columns, metrics, ..."
    )
    parser.add_argument("--rows", nargs="+", metavar="KNOB", help="default: a row per variant")
    parser.add_argument("--columns", nargs="+", metavar="KNOB", help="default: a column per metric")
    parser.add_argument(
        "--metric",
        nargs="+",
        metavar="NAME",
        help=f"default: the mIoU of every scored stage; {CUTS}",
    )
    parser.add_argument(
        "--where", nargs="+", metavar="KNOB=VALUE", help="only such trials; a value may be a [list]"
    )
    parser.add_argument(
        "--delta", choices=("previous", "baseline"), help="write the difference behind each mean"
    )
    parser.add_argument(
        "--best-of", nargs="+", metavar="KNOB", help="show the best value of these knobs ..."
    )
    parser.add_argument("--best-by", metavar="NAME", help="... by this metric")
    # None and not False where it is left out: `_spec` collects what was given.
    parser.add_argument(
        "--paper", action="store_true", default=None, help="the paper's numbers where they hold"
    )
    parser.add_argument(
        "--allow-mixed", action="store_true", help="mark what cannot be compared, do not refuse it"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check", action="store_true", help="say which cells are stale or cannot be made again"
    )
    instead.add_argument(
        "--provenance", action="store_true", help="the runs, commits and artifacts of every cell"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="by default Markdown, or bold text where a terminal shows it",
    )
    parser.add_argument(
        "--width",
        choices=("column", "page"),
        help="room of a LaTeX table in a two-column paper (default: a column if that is enough)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    add_mlflow_pages(parser)
    parser.add_argument(
        "--copies",
        type=Path,
        metavar="FOLDER",
        help="write table.md, table.html and table.csv there too",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table, or write it to a file; or check it, with the exit code 1 where something is
    wrong.
    """
    _check_options(options)
    document = YamlFile(options.spec, kind="a table") if options.spec else None
    spec = _spec(options, document)
    trials = load(*options.experiments, tracking=options.tracking, labels=options.labels)
    metrics = [*spec.metrics, *([spec.best.by] if spec.best else [])]
    # Metrics with an @ are not in MLflow: `build` finds them as columns from here on.
    trials = with_thresholds(trials, metrics, tracking=options.tracking)
    try:
        built = build(trials, spec, allow_mixed=options.allow_mixed)
    except SpecError as error:
        raise ValueError(
            f"{document.where(error.location)}: {error}" if document else str(error)
        ) from None
    if options.check:
        return _check(built, trials, options.tracking)
    if options.provenance:
        say(provenance(built))
    else:
        _write(built, options)
    return 0


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that do not go together, before anything is read or written.

    Raises:
        ValueError: one needs another, is not an address, or names a folder that is not there.
    """
    kind = options.format or "markdown"
    if options.width is not None and kind != "latex":
        raise ValueError(f"--width is for --format latex, got --format {kind}")
    if kind == "xlsx" and options.out is None:
        raise ValueError("--format xlsx needs a file: --out FILE")
    mlflow_pages(options)
    if options.copies is not None and not options.copies.is_dir():
        raise ValueError(f"--copies {options.copies}: there is no such folder")
    if options.out is not None and not options.out.parent.is_dir():
        raise ValueError(f"--out {options.out}: there is no folder {options.out.parent}")


def _check(built: Table, trials: pd.DataFrame, tracking: str | None) -> int:
    cells = chain.from_iterable(row.cells for row in built.rows)
    sources = {source.run_id for source in chain.from_iterable(cell.sources for cell in cells)}
    lines = check(
        built, trials, counted={run: counted_stages(run, tracking=tracking) for run in sources}
    )
    # Told, and no fault: these trials are in no cell.
    if built.left_out:
        trials_left = number(built.left_out, "trial")
        say(f"left out: {trials_left} that the sweep's file no longer asks for")
    say(
        "\n".join(lines)
        or "Every number can be made again: one commit, one set of packages, all counts there."
    )
    return 1 if lines else 0


def _write(built: Table, options: argparse.Namespace) -> None:
    """Print the table, or write it and say so."""
    if options.copies is not None:
        texts = {
            "table.md": markdown(built),
            "table.html": _page(built, options),
            "table.csv": to_csv(built),
        }
        for name, text in texts.items():
            (options.copies / name).write_text(text, encoding="utf-8")
    kind = options.format or "markdown"
    if kind == "xlsx":
        options.out.write_bytes(xlsx(built))
        say_written(options.out, f"{_size(built)} as XLSX, with a sheet for programs")
        return
    text, warning = _text(built, kind, options)
    if options.out is None:
        # Every format ends its last line itself.
        say(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
        say_written(options.out, f"{_size(built)} as {NAMES[kind]}")
    if warning:
        # beside the table, so that a pipe holds the table alone
        say(warning, to_stderr=True)


def _text(built: Table, kind: str, options: argparse.Namespace) -> tuple[str, str]:
    """Return the table as text, and what a user must know of it."""
    if kind == "latex":
        made = typeset(built, options.width)
        return made.text, made.warning
    if kind == "html":
        return _page(built, options), ""
    if kind == "csv":
        return to_csv(built), ""
    is_styled = options.format is None and options.out is None and shows_styles(sys.stdout)
    return (on_terminal if is_styled else markdown)(built), ""


def _size(built: Table) -> str:
    rows = number(len(built.rows), "row")
    return f"a table of {rows} and {number(len(built.columns), 'column')} of numbers"


def _page(built: Table, options: argparse.Namespace) -> str:
    """Return the table as HTML whose numbers lead to their runs where the reader sees MLflow."""
    text = html(built, server=mlflow_pages(options))
    # a file says nothing of its encoding
    return text.encode("ascii", "xmlcharrefreplace").decode()


def _spec(options: argparse.Namespace, document: YamlFile | None) -> TableSpec:
    """Return the table that the file or the command line describes."""
    given = {
        "rows": options.rows,
        "columns": options.columns,
        "metrics": options.metric,
        "delta": options.delta,
        "where": options.where and where_of(options.where),
        "paper": options.paper,
        "best": _best(options.best_of, options.best_by),
    }
    said = {key: value for key, value in given.items() if value is not None}
    if document is None:
        return TableSpec.model_validate(said)
    if said:
        raise ValueError(
            f"--spec FILE excludes --{', --'.join(said)}: write {', '.join(said)} into "
            f"{document.path}"
        )
    return read_table_spec(document)


def _best(of: Sequence[str] | None, by: str | None) -> dict[str, object] | None:
    if (of is None) != (by is None):
        raise ValueError(
            "--best-of and --best-by belong together: the best value of these knobs, by this metric"
        )
    return None if of is None else {"of": of, "by": by}
