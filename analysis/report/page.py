"""A report as one HTML file: images, style and script are inside, and nothing is ever loaded."""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.report.blocks import Grid, Picture, Section, Text

RESOLUTION = 200


def page(title: str, sections: Sequence[Section], *, made: str) -> str:
    """The HTML text; everything that comes from users is escaped by the template."""
    environment = Environment(
        loader=PackageLoader("analysis.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    kinds = {"text_block": Text, "grid_block": Grid, "picture_block": Picture}
    environment.tests.update({name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()})
    environment.filters["data_uri"] = data_uri
    own = files("analysis.report")
    style, script = (Markup((own / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        title=title, sections=sections, made=made, style=style, script=script
    )


def png(content: Figure | bytes) -> bytes:
    """A picture as PNG."""
    if isinstance(content, bytes):
        return content
    buffer = io.BytesIO()
    content.savefig(buffer, format="png", dpi=RESOLUTION)
    return buffer.getvalue()


def data_uri(picture: Picture) -> str:
    """A picture inside the address that shows it."""
    return "data:image/png;base64," + base64.b64encode(png(picture.content)).decode()
