"""All panels of a trial on one page, which MLflow's artifact viewer opens."""

import base64
import io
from collections.abc import Mapping

from jinja2 import Environment
from PIL import Image

# At this quality the eye sees no difference, and the page of the embedded data takes some 210 kB.
QUALITY = 80
# MLflow shows a page in a frame that loads nothing, so the pictures are inside.
PAGE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
  body { font: 15px system-ui, sans-serif; margin: 1rem; }
  h1 { font-size: 1.1rem; }
  img { max-width: 100%; height: auto; margin: .3rem 0; }
</style>
<h1>{{ title }}</h1>
{% for name, address in pictures.items() -%}
<img src="{{ address }}" alt="Results of the stages for the image {{ name }}">
{% endfor -%}
</html>
""")


def gallery(title: str, panels: Mapping[str, Image.Image]) -> str:
    """Return a page with the panels, by the names of their images."""
    pictures = {name: _data_uri(panel) for name, panel in panels.items()}
    return PAGE.render(title=title, pictures=pictures)


def _data_uri(panel: Image.Image) -> str:
    buffer = io.BytesIO()
    panel.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
