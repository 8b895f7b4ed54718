"""A report as one HTML file: images, style and script are inside, and nothing is ever loaded."""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.blocks import Picture, Section, Text
from analysis.table.grid import Grid

REMS_PER_INCH = 10


def page(title: str, sections: Sequence[Section], *, made: str) -> str:
    """The HTML text; everything that comes from users is escaped by the template."""
    environment = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    kinds = {"text_block": Text, "grid_block": Grid, "picture_block": Picture}
    environment.tests.update(
        {name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()}
    )
    environment.filters |= {"data_uri": data_uri, "width": width}
    own = files("analysis.report")
    style, script = (
        Markup((own / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js")
    )
    return environment.get_template("page.html").render(
        title=title, sections=sections, made=made, style=style, script=script
    )


def data_uri(picture: Picture) -> str:
    """A picture inside the address that shows it, as vectors, which stay sharp however large they
    are shown.
    """
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "occse"}):
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def width(picture: Picture) -> str:
    """How wide a picture is shown where there is room, in CSS: a column of a paper as half a page."""
    return f"{REMS_PER_INCH * picture.figure.get_figwidth():.0f}rem"
