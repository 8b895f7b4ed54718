"""Markdown tables as tests compare them."""

import re


def unpadded(text: str) -> str:
    """Return a Markdown table without the spaces that align its columns."""
    return re.sub(" +", " ", text)
