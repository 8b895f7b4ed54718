"""The report of sweeps as MLflow has them: finished, running, failed, with little in them."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import openpyxl
import pytest
from mlflow import MlflowClient
from recorded import STAGES, Record, record_sweep

from analysis.__main__ import main
from analysis.read.secrets import masked_command

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    # a name has a letter that figures lack
    pytest.mark.filterwarnings("ignore:Glyph 20013 .* missing from font"),
]
NASTY = 'source=cgnet, name=<script>alert(1)</script> & 50% of_{all} $\\frac$ "é" λ 中 =1+1'
LOADING = {"src", "srcset", "data", "poster", "action", "background"}


@dataclass
class Page(HTMLParser):
    """The parts of a page that tests look at."""

    ids: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)
    text: str = ""
    table: str = ""
    in_cell: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.loaded += [
            value
            for name, value in found.items()
            if name in LOADING or (tag == "link" and name == "href")
        ]
        if tag == "table":
            self.table = found["data-name"]
            self.tables[self.table] = []
        elif tag == "tr":
            self.tables[self.table].append([])
        elif tag in ("td", "th"):
            self.tables[self.table][-1].append("")
            self.in_cell = True
            assert found.get("scope") in {"td": [None], "th": ["row", "col"]}[tag]
        elif tag == "a":
            self.targets.append(found["href"])
            if self.table:
                self.links.setdefault(self.table, []).append(found["href"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.table = ""
        elif tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.tables[self.table][-1][-1] += data


def read_page(folder: Path) -> Page:
    page = Page()
    page.feed((folder / "index.html").read_text(encoding="utf-8"))
    return page


def make(folder: Path, tracking: str, *experiments: str) -> Page:
    assert main(["report", *experiments, str(folder), "--tracking", tracking]) == 0
    page = read_page(folder)
    assert len(set(page.ids)) == len(page.ids)
    assert {target.removeprefix("#") for target in page.targets if target.startswith("#")} <= set(
        page.ids
    )
    assert all(value.startswith("data:image/svg+xml;base64,") for value in page.loaded)
    return page


@pytest.fixture(scope="module")
def report(record: Record, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a baseline, a variant that is better and has a nasty name, and one that is not
    better.
    """
    folder = tmp_path_factory.mktemp("report")
    variants = {"source=oc": 0.0, NASTY: 0.08, "source=cgnet, name=same": 0.0}
    record_sweep(record, tracking, folder / "files", "whole", variants=variants, seeds=3, both=20)
    make(folder / "out", tracking, "whole")
    return folder / "out"


def test_the_page_is_alone_in_the_world(report: Path) -> None:
    content = (report / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", content) == []
    assert "url(" not in content
    assert "@import" not in content
    assert "fetch(" not in content
    assert "default-src 'none'" in content


def test_names_from_mlflow_are_text_everywhere(report: Path) -> None:
    page = read_page(report)
    assert page.tags.count("script") == 3, "of the page, and the data of two widgets"
    assert page.tags.count("b") == 0
    assert any(NASTY.partition(", ")[2] in row[0] for row in page.tables["results"])
    sheet = openpyxl.load_workbook(report / "report.xlsx")["results"]
    assert {
        cell.data_type for row in sheet.iter_rows() for cell in row if isinstance(cell.value, str)
    } == {"s"}


def test_the_summary_says_what_was_asked_and_what_came_out(report: Path) -> None:
    page = read_page(report)
    text = page.text
    assert "QuestionDoes erasing help?" in text
    assert "better maps & <b>better</b> segmentations." in text
    assert "3 variants of 3 seeds, 9 trials: 9 finished." in text
    assert "the last score, " in text
    assert " has the highest mean, 59.0 ± 1.0 % (3 seeds). Against the baseline that is" in text
    rows = {row[0]: row for row in page.tables["answers"][1:]}
    assert (rows["Segmentation mIoU"][2], rows["Segmentation mIoU"][6]) == ("59.0 ± 1.0", "better")
    compared = "2 variants compared with the baseline, 1 better, 0 worse and 1 "
    assert f"Segmentation mIoU: of {compared}" in text
    assert "git checkout 0123456789abcdef" in text
    assert "Yes: they come from one commit and one set of packages" in text


def test_numbers_agree_in_html_csv_latex_and_xlsx(report: Path) -> None:
    heads, *rows = read_page(report).tables["results"]
    assert [head.rstrip("†") for head in heads[2:4]] == ["CAM mIoU", "CRF mIoU"]
    # the page has names for people, the file those of the sweep; both are in one order
    variants = ["source=oc", NASTY, "source=cgnet, name=same"]
    shown: dict[tuple[str, str], str] = {}
    for variant, row in zip(variants, rows, strict=True):
        for stage, text in zip(STAGES, row[2:], strict=True):
            shown[variant, f"{stage}/miou"] = text
    with (report / "tables" / "results.csv").open(encoding="utf-8") as file:
        written = {(line["variant"], line["metric"]): line for line in csv.DictReader(file)}
    assert shown.keys() == written.keys()
    for key, text in shown.items():
        assert text == f"{float(written[key]['mean']):.1f} ± {float(written[key]['std']):.1f}"
    latex = (report / "tables" / "results.tex").read_text(encoding="utf-8")
    for text in shown.values():
        assert text.replace("±", "+-") in latex
    sheet = openpyxl.load_workbook(report / "report.xlsx")["results"]
    assert [
        [cell.value for cell in line][2:] for line in sheet.iter_rows(min_row=2, max_row=4)
    ] == [numbers_in(row[2:]) for row in rows]


def test_every_number_leads_to_the_runs_it_comes_from(report: Path) -> None:
    page = read_page(report)
    assert len(page.links["results"]) == 3 * 4
    content = (report / "index.html").read_text(encoding="utf-8")
    heads, *runs = page.tables["runs"]
    starts = re.findall(r'<tr role="row" id="(runs-\d)"', content)
    assert starts == list(dict.fromkeys(link.removeprefix("#") for link in page.links["results"]))
    assert [row[heads.index("seed")] for row in runs] == ["0", "1", "2"] * 3


def test_runs_link_to_the_server_that_the_reader_gives_and_hold_no_password(
    report: Path, tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "whole", str(tmp_path), "--tracking", tracking, "--mlflow", "ml:5"]) == 2
    assert "--tracking-url ml:5: expected http://... or https://..." in capsys.readouterr().err
    content = (report / "index.html").read_text(encoding="utf-8")
    assert 'data-server=""' in content
    assert len(re.findall(r'<span data-run="\d+/\w{32}">', content)) == 9
    command = ["python", "-m", "analysis", "report", "--tracking", "http://me:secret@ml/"]
    assert masked_command(command).endswith("--tracking 'http://me:***@ml/'")


def test_costs_count_an_artifact_once_and_its_gpus(report: Path) -> None:
    rows = {row[0]: row[1:] for row in read_page(report).tables["cost"]}
    assert rows["crf"] == ["9", "9", "6.8 min", "0 s", "6.8 min", "0 s"]
    assert "took 27 min (20 min of GPU time)." in read_page(report).text
    assert rows["all"] == ["36", "36", "27 min", "20 min", "27 min", "0 s"]


def numbers_in(texts: list[str]) -> list[float]:
    found = [re.findall(r"[-−]?\d[\d,]*\.?\d*", text) for text in texts]
    return [float(each.replace("−", "-").replace(",", "")) for each in chain.from_iterable(found)]


def words_in(texts: list[str]) -> list[str]:
    found = re.findall(r"[^\W\d_]+", " ".join(texts))
    # the ends of an interval have columns of their own
    return [word for word in found if word != "to"]


def test_other_tables_say_in_csv_what_they_say_on_the_page(report: Path) -> None:
    page = read_page(report)
    assert {
        "comparison_seg",
        "supervision",
        "cost",
        "packages",
        "commits",
        "runs",
    } <= page.tables.keys()
    for name, rows in page.tables.items():
        if name != "results":
            with (report / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
                lines = list(csv.reader(file))
            assert len(lines) == len(rows)
            for line, row in zip(lines[1:], rows[1:], strict=True):
                # the parts of "1.2 to 3.4" stand in columns of their own, and behind a name its key
                parts = [
                    text
                    for head, text in zip(lines[0], line, strict=True)
                    if not head.endswith(" key")
                ]
                assert sorted(numbers_in(parts)) == sorted(numbers_in(row))
                assert sorted(words_in(parts)) == sorted(words_in(row))


def test_page_has_names_for_people_and_its_files_the_keys_too(report: Path) -> None:
    page = read_page(report)
    words = page.text.partition("git checkout")[0]
    assert re.findall(r"\b(?:cam|crf|pseudo|seg)/\w+", words) == []
    with (report / "tables" / "pareto.csv").open(encoding="utf-8") as file:
        (line, *_) = csv.DictReader(file)
    assert {"variant", "variant key", "seg/miou", "seg/miou std"} <= line.keys()
    assert (line["variant"], line["variant key"]) == ("oc", "source=oc")
    sheet = openpyxl.load_workbook(report / "report.xlsx")["pareto"]
    assert [cell.value for cell in sheet[1]][:3] == ["variant", "variant key", "Segmentation mIoU"]


@pytest.mark.skipif(
    shutil.which("pdflatex") is None or shutil.which("pdftotext") is None,
    reason="there is no pdflatex, or no pdftotext",
)
def test_words_with_ligatures_can_be_copied_from_the_pdf(report: Path) -> None:
    command = ["pdftotext", report / "report.pdf", "-"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    words = set(text.split())
    # ffe, fin, ff: words of the notes below the tables
    assert {"differences", "finished).", "Effects"} <= words
    assert not re.findall("[\ufb00-\ufb06\ufffd]", text)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles_whole_and_table_by_table(report: Path, tmp_path: Path) -> None:
    assert (report / "report.pdf").read_bytes().startswith(b"%PDF")
    source = (report / "report.tex").read_text(encoding="utf-8")
    # as the note below the table says: the best is bold, the second underlined
    assert source.count(r"\textbf{59.0 ") == source.count(r"\underline{51.0 ") / 2 == len(STAGES)
    assert set(re.findall(r"U\+\w+", (report / "report.tex").read_text(encoding="utf-8"))) == {
        "U+4E2D"
    }
    names = sorted(path.as_posix() for path in (report / "tables").glob("*.tex"))
    # the fonts and the page of CVPR
    head = r"\documentclass[10pt,twocolumn,letterpaper]{article}\usepackage[T1]{fontenc}"
    head += r"\usepackage{times,array,booktabs,graphicx}\setlength{\textwidth}{6.875in}"
    head += r"\setlength{\columnsep}{0.3125in}\begin{document}"
    floats = []
    for name in names:
        text = Path(name).read_text(encoding="utf-8")
        kind = "table*" if "(table*)" in text else "table"
        # that of the results needs siunitx, and is compiled elsewhere
        if not name.endswith("results.tex"):
            floats.append(rf"\begin{{{kind}}}\input{{{name}}}\end{{{kind}}}\clearpage")
    source = "\n".join([head, *floats, r"\end{document}"])
    (tmp_path / "all.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "made smaller" not in done.stdout


def test_a_running_sweep_with_failures_and_gates_is_reported_as_far_as_it_is(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    record_sweep(
        record, tracking, tmp_path / "files", "running", variants={"source=oc": 0.0, "ours": 0.05}
    )
    record("running", "later", order=2, status="RUNNING")
    record(
        "running",
        "broken",
        order=3,
        status="FAILED",
        tags={"occse.failed": "oc", "occse.error": "oc: no <memory>"},
    )
    stopped = {
        "variants": {"gated": -0.1},
        "seeds": 1,
        "stages": ("cam",),
        "tags": {"occse.stopped": "cam"},
    }
    record_sweep(record, tracking, tmp_path / "files", "running", **stopped)
    page = make(tmp_path / "out", tracking, "running")
    assert "4 finished, 1 stopped by a gate, 1 failed and 1 not done yet." in page.text
    assert "no <memory>" in page.text
    cells = {row[0]: row[2:] for row in page.tables["results"]}
    assert (cells["later"][0], cells["broken"][0], cells["gated"][0]) == ("…", "✗", "40.0")
    assert [row[0] for row in page.tables["comparison_cam"][1:]] == ["gated", "ours"]
    assert {"running", "failed: oc", "stopped after cam"} <= {
        row[page.tables["runs"][0].index("status")] for row in page.tables["runs"]
    }


def test_a_sweep_that_has_just_begun_has_a_report(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    for seed in range(2):
        record("begun", "source=oc", seed=seed, status="RUNNING")
    page = make(tmp_path / "out", tracking, "begun")
    assert "1 variant of 2 seeds, 2 trials: 2 not done yet." in page.text
    assert page.tables["results"][1][2:] == ["…"] * 4
    assert "img" not in page.tags


def test_one_seed_has_no_deviation_and_the_report_says_why(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    record_sweep(
        record,
        tracking,
        tmp_path / "files",
        "one",
        variants={"source=oc": 0.0, "ours": 0.05},
        seeds=1,
    )
    page = make(tmp_path / "out", tracking, "one")
    assert "Every variant has one seed: there is no ±" in page.text
    assert [row[2] for row in page.tables["results"][1:]] == ["50.0", "55.0"]
    assert "Nothing to say here: no variant has two seeds of seg" in page.text


def test_images_with_several_classes_are_compared_by_themselves(report: Path) -> None:
    tables = read_page(report).tables
    every, multi = tables["comparison_seg"], tables["comparison_seg_multi"]
    assert [row[0] for row in multi] == [row[0] for row in every]
    assert [row[1] for row in multi] != [row[1] for row in every]
    assert (
        "Segmentation mIoU (several classes) against the baseline, in points: paired bootstrap "
        "over 20 images" in read_page(report).text
    )


def test_without_a_baseline_without_seg_and_of_several_sweeps(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    record_sweep(
        record,
        tracking,
        tmp_path / "a",
        "maps",
        variants={"a": 0.0, "b": 0.05},
        stages=("cam", "crf"),
    )
    record_sweep(
        record, tracking, tmp_path / "b", "more: of/it", variants={"source=oc": 0.0, "c": 0.05}
    )
    page = make(tmp_path / "out", tracking, "maps", "more: of/it")
    assert "nothing is compared: expected finished trials of a baseline" in page.text
    assert "comparison_seg_more_of_it" in page.tables
    assert (tmp_path / "out" / "figures" / "differences_seg_more_of_it.pdf").exists()
    assert not [
        name for name in page.tables if name.startswith("comparison") and name.endswith("_maps")
    ]
    assert {row[1] for row in page.tables["runs"][1:]} == {"maps", "more: of/it"}


def test_expectations_stand_on_the_first_page_with_their_outcomes(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    variants = {"source=oc": 0.0, "ours": 0.08}
    runs = record_sweep(record, tracking, tmp_path / "files", "hoped", variants=variants, seeds=5)
    client = MlflowClient(tracking)
    parent = client.get_run(runs["ours", 0]).data.tags["mlflow.parentRunId"]
    claims = [
        {"compare": "ours", "metric": "seg/miou", "sign": sign, "text": f"ours {sign}"}
        for sign in ("+", "-")
    ]
    content = json.dumps({"version": 1, "claims": claims})
    client.log_text(parent, content, "expectations.json")
    page = make(tmp_path / "out", tracking, "hoped")
    outcomes = {row[0]: row[2] for row in page.tables["expectations"][1:]}
    assert outcomes == {"ours +": "held", "ours -": "contradicted"}
    assert next(iter(page.tables)) == "expectations"


def test_a_bar_in_a_name_of_a_variant_stays_in_its_cell(
    record: Record, tracking: str, tmp_path: Path
) -> None:
    variants = {"source=oc": 0.0, "a | b": 0.08}
    record_sweep(record, tracking, tmp_path / "files", "barred", variants=variants)
    page = make(tmp_path / "out", tracking, "barred")
    assert "a | b" in {row[0].removesuffix(" (baseline)") for row in page.tables["results"]}
    assert "a | b" in {row[0] for row in page.tables["comparison_seg"]}
    assert "a | b" in {row[0] for row in page.tables["pareto"]}


def test_a_file_in_the_place_of_the_folder_is_refused(
    report: Path, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "whole", str(report / "index.html"), "--tracking", tracking]) == 2
    assert "is a file; expected a folder" in capsys.readouterr().err


def test_an_export_is_reported_where_its_database_is_not(
    report: Path, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "whole", "--out", "whole.parquet", "--tracking", tracking]) == 0
    page = make(tmp_path / "out", "sqlite:///nowhere.db", "whole.parquet")
    assert page.tables["results"] == read_page(report).tables["results"]
    assert "Not checked: there is no database nowhere.db" in page.text
    assert not (tmp_path / "nowhere.db").exists()
