"""The report in a real browser: sorted by keyboard, on a phone, at 400 %, in the dark, on paper."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import MISSING, Browser, browser
from recorded import Record, record_sweep
from selenium.webdriver.common.keys import Keys
from waiting import wait_until

from analysis.__main__ import main

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]
LONG = "source=cgnet, erasing=class_agnostic, lambda_start=10, crf_low.alpha=4, crf_high.alpha=12"
ROWS = "[...document.querySelectorAll('[data-name=results] tbody tr')]"
COLUMN = f"return {ROWS}.map(row => row.cells[arguments[0]].textContent)"
WIDTHS = "return [document.documentElement.scrollWidth, innerWidth]"
# WCAG 2's relative luminance and contrast of every text with the nearest background that is painted
# behind it
CONTRAST = """
const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = numbers(color).slice(0, 3).map((value) => channel(value / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const color = getComputedStyle(each).backgroundColor;
    if ((numbers(color)[3] ?? 1) > 0) return color;
  }
  return "rgb(255, 255, 255)";
};
let worst = [21, ""];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
  const [one, other] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 200)];
}
return worst;
"""


@pytest.fixture(scope="module")
def page(record: Record, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browsed")
    variants = {"source=oc": 0.0, LONG: 0.08, "source=cgnet, erasing=cse": 0.04}
    knobs = {
        "source=oc": {"cam.source": "oc"},
        LONG: {"cam.source": "cgnet", "cgnet.erasing": "class_agnostic"},
        "source=cgnet, erasing=cse": {"cam.source": "cgnet", "cgnet.erasing": "cse"},
    }
    record_sweep(
        record,
        tracking,
        folder / "files",
        "browsed",
        variants=variants,
        params=knobs,
        curves=["cgnet/loss"],
    )
    record("browsed", "later", order=4, status="RUNNING")
    assert main(["report", "browsed", str(folder / "out"), "--tracking", tracking]) == 0
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@pytest.fixture
def window(opened: Browser, page: Path) -> Browser:
    opened.resize(1280, 900)
    opened.prefer(dark=False)
    opened.open(page)
    return opened


def test_nothing_is_loaded_and_nothing_goes_wrong(window: Browser) -> None:
    loaded = window.run("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert window.messages() == []
    sizes = window.run(
        "return [...document.images].map("
        "image => [image.complete, image.naturalWidth, image.alt.length])"
    )
    assert len(sizes) >= 5
    assert all(complete and width > 0 and alt > 5 for complete, width, alt in sizes)


def test_tables_are_sorted_by_click_and_by_keyboard(window: Browser) -> None:
    given = window.run(COLUMN, 5)
    assert given == ["50.5 ± 0.7", "58.5 ± 0.7", "54.5 ± 0.7", "…"]
    window.run("document.querySelectorAll('[data-name=results] thead button')[5].click()")
    assert window.run(COLUMN, 5) == ["58.5 ± 0.7", "54.5 ± 0.7", "50.5 ± 0.7", "…"]
    window.run("document.querySelectorAll('[data-name=results] thead button')[4].focus()")
    window.press(Keys.TAB, Keys.ENTER)
    assert (
        window.run("return document.activeElement.parentElement.getAttribute('aria-sort')")
        == "ascending"
    )
    assert window.run(COLUMN, 5) == ["50.5 ± 0.7", "54.5 ± 0.7", "58.5 ± 0.7", "…"]
    window.press(Keys.ENTER)
    assert window.run(COLUMN, 5) == given


def test_a_number_leads_to_its_runs(window: Browser) -> None:
    window.run("document.querySelector('[data-name=results] td a').click()")
    target = window.run(
        "const row = document.querySelector('tr:target'); return [row.cells[0].textContent, row.id]"
    )
    assert target == ["OC", "runs-1"]
    top = window.run("return document.querySelector('tr:target').getBoundingClientRect().top")
    assert 0 <= top < 900


@pytest.mark.parametrize(
    ("width", "height", "zoom"), [(390, 844, 1), (1280, 1024, 4), (320, 568, 1), (1280, 900, 1)]
)
def test_nothing_but_a_table_s_box_is_wider_than_the_window(
    window: Browser, width: int, height: int, zoom: float
) -> None:
    window.resize(width, height, zoom=zoom)
    content, inner = window.run(WIDTHS)
    assert inner == width / zoom
    assert content <= inner
    boxes = window.run(
        "return [...document.querySelectorAll('.box')].map("
        "box => [box.scrollWidth, box.clientWidth, box.tabIndex])"
    )
    assert all(tab == 0 for *_, tab in boxes)
    if width < 1000:
        assert any(scroll > client for scroll, client, _ in boxes)


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_both_colours(window: Browser, dark: bool) -> None:
    window.prefer(dark=dark)
    assert (
        window.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ) is not dark
    ratio, element = window.run(CONTRAST)
    assert ratio >= 4.5, element
    window.run("document.getElementById('theme').click()")
    assert (
        window.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ) is dark
    ratio, element = window.run(CONTRAST)
    assert ratio >= 4.5, element


def test_everything_that_acts_can_be_reached_and_has_a_name(window: Browser) -> None:
    window.press(Keys.TAB)
    assert window.run("return document.activeElement.textContent") == "Skip to the answers"
    named: Any = window.command("Accessibility.getFullAXTree")["nodes"]
    acting = [
        node
        for node in named
        if node.get("role", {}).get("value") in ("button", "link", "table", "image", "region")
    ]
    assert len(acting) > 30
    assert [node for node in acting if not node.get("name", {}).get("value")] == []


def test_it_prints_in_light_colours_without_cutting_tables(window: Browser, tmp_path: Path) -> None:
    window.prefer(dark=True)
    window.command("Emulation.setEmulatedMedia", media="print")
    assert (
        window.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    )
    window.resize(700, 900)
    boxes = window.run(
        "return [...document.querySelectorAll('.box')].map("
        "box => [box.scrollWidth, document.body.clientWidth])"
    )
    assert [each for each in boxes if each[0] > each[1]] == []
    # nothing on paper can be clicked
    shown = window.run(
        "return [...document.querySelectorAll('select, input, button')].filter("
        "each => each.offsetParent && !each.closest('thead')).length"
    )
    assert shown == 0
    printed = base64.b64decode(window.command("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    window.command("Emulation.setEmulatedMedia", media="")


def test_explorer_filters_plots_and_tables_and_leads_to_a_run(window: Browser) -> None:
    shown = "return [...document.querySelectorAll('[data-name=runs] tbody tr')].filter("
    shown += "row => !row.hidden).length"
    assert window.run(shown) == 7
    count = "return document.querySelector('.widget [aria-live]').textContent"
    assert window.run(count) == "7 of 7 runs"
    script = """
    const select = document.querySelectorAll('.widget .controls select')[1];
    select.value = [...select.options].find(each => each.textContent === 'CSE').value;
    select.dispatchEvent(new Event('change'));
    """
    window.run(script)
    assert window.run(count) == "2 of 7 runs"
    assert window.run(shown) == 2
    assert window.run("return document.querySelectorAll('.widget circle').length") == 1
    tip = """
    const mark = document.querySelector('.widget circle');
    mark.dispatchEvent(new PointerEvent('pointerenter', {clientX: 100, clientY: 100}));
    return document.querySelector('.tip').textContent;
    """
    assert "CSE · 2 seeds" in window.run(tip)
    assert "Segmentation mIoU 54.5" in window.run(tip)
    click = "document.querySelector('.widget circle').dispatchEvent(new MouseEvent('click'))"
    window.run(click)
    name = "return document.querySelector('tr:target').cells[0].textContent"
    assert window.run(name) == "CSE"


def test_explorer_draws_the_curves_of_the_chosen_runs(window: Browser) -> None:
    assert (
        window.run("return document.querySelector('.plots').textContent").count("cgnet/loss") >= 1
    )
    lines = "return document.querySelectorAll('.plots > div:nth-child(2) .path').length"
    assert window.run(lines) == 6


def test_gallery_cuts_the_maps_at_a_threshold(window: Browser) -> None:
    ready = "return document.querySelectorAll('.gallery canvas').length"
    wait_until(lambda: window.run(ready) == 3)
    bright = """
    const canvas = document.querySelector('.gallery canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return [...data].filter((value, at) => at % 4 === 0 && value > 60).length;
    """
    before = window.run(bright)
    slide = """
    const slider = document.querySelector('.widget input[type=range]');
    slider.value = 80;
    slider.dispatchEvent(new Event('input'));
    """
    window.run(slide)
    assert 0 < window.run(bright) < before
    legend = "return document.querySelector('[data-kind=gallery] .legend').textContent"
    assert window.run(legend) == "fish"


def test_links_of_runs_go_to_the_server_that_the_reader_names(window: Browser) -> None:
    links = "return document.querySelectorAll('[data-run] a').length"
    assert window.run(links) == 0
    name = """
    const field = document.getElementById('server');
    field.value = 'https://lab.example/mlflow/';
    field.dispatchEvent(new Event('change'));
    return document.querySelector('[data-run] a').href;
    """
    address = window.run(name)
    assert address.startswith("https://lab.example/mlflow/#/experiments/")
    assert window.run(links) == 7
    window.run("document.getElementById('server').value = 'javascript:alert(1)'")
    window.run("document.getElementById('server').dispatchEvent(new Event('change'))")
    assert window.run(links) == 0
    window.run("localStorage.clear()")
