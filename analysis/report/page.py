"""A report as one HTML file: images, style and script are inside, and nothing is ever loaded.

The script is our own, some 20 kB: what the page draws (points, lines, parallel axes, thresholded
maps) is little, and the plotting libraries that draw it are 1 to 5 MB in every report.
"""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.blocks import (
    Beside,
    Folded,
    Listing,
    Picture,
    Quote,
    Section,
    Text,
    Widget,
    leaves_of,
)
from analysis.table.formats.html import VIEW
from analysis.table.grid import Grid

# A column of a paper (3.3 inches) takes half the width of the page.
REMS_PER_INCH = 9
# Of images within pictures: words in panels can be read, and a page stays below some 2 MB.
PIXELS_PER_INCH = 200
# A text longer than this is broken into lines.
LONG = 44
# Cells of more numbers than these do not fit beside each other on a phone.
MOST_STACKED = 6
# Names of tests in the template: `block is grid_block`.
KINDS = {
    "text_block": Text,
    "quote_block": Quote,
    "grid_block": Grid,
    "picture_block": Picture,
    "listing_block": Listing,
    "widget_block": Widget,
    "beside_block": Beside,
    "folded_block": Folded,
}
SCRIPTS = {"explorer": "explorer.js", "gallery": "gallery.js"}


def page(title: str, sections: Sequence[Section], *, made: str, server: str = "") -> str:
    """Return the HTML text; everything that comes from users is escaped by the template.

    Args:
        title: of the report.
        sections: its parts.
        made: when it was made.
        server: address of MLflow's pages, to which the links of runs go until the reader gives
            another one.
    """
    environment = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        # A misspelt name in the template is an error; by default jinja prints nothing for it.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, kind in KINDS.items():
        environment.tests[name] = lambda block, kind=kind: isinstance(block, kind)
    environment.filters |= {"data_uri": data_uri, "width": width, "stacks": stacks}
    widgets = {block.kind for block in leaves_of(sections) if isinstance(block, Widget)}
    scripts = ["page.js", *(SCRIPTS[kind] for kind in sorted(widgets))]
    script = "\n".join(map(_own_file, scripts))
    return environment.get_template("page.html").render(
        title=title,
        sections=sections,
        made=made,
        server=server,
        view=VIEW,
        long=LONG,
        # Our own style and script are the only texts that the template does not escape.
        style=Markup(_own_file("page.css")),
        script=Markup(script),
        script_kb=round(len(script.encode()) / 1000),
    )


def data_uri(picture: Picture) -> str:
    """Return a picture as an address that holds it, as vectors, which stay sharp at any size."""
    buffer = io.BytesIO()
    # Letters as outlines, since a reader may lack the font; without a date, so that the same figure
    # has the same bytes.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "occse"}):
        picture.figure.savefig(buffer, format="svg", dpi=PIXELS_PER_INCH, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def width(picture: Picture) -> str:
    """Return the width of a picture where there is room, in CSS."""
    return f"{REMS_PER_INCH * picture.figure.get_figwidth():.0f}rem"


def stacks(grid: Grid) -> bool:
    """Tell whether a grid's numbers fit below the name of their row on a phone."""
    is_short = [
        all(len(row[index].text) <= LONG for row in grid.rows)
        for index in range(1, len(grid.heads))
    ]
    return 0 < sum(is_short) <= MOST_STACKED


def _own_file(name: str) -> str:
    return (files("analysis.report") / name).read_text(encoding="utf-8")
