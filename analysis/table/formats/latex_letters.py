"""Text as pdflatex prints it: every letter that it can set, and the code of one that it cannot."""

import re
import unicodedata

from occse.naming.markup import COMMANDS, Name

# `[` and `*` at the start of a row would be read as arguments of the line break before it.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}
# Letters beyond ASCII that LaTeX's kernel sets as they are, found by setting each one alone.
NATIVE = frozenset(
    "¡¢£¤¥¦§¨©ª¬®¯°±²³´µ¶·¸¹º¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖ×ØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõö÷øùúûüýÿ"
    "ĀāĂăĆćĈĉĊċČčĎďĒēĔĕĖėĚěĜĝĞğĠġĢģĤĥĨĩĪīĬĭİıĲĳĴĵĶķĹĺĻļĽľŁłŃńŅņŇňŌōŎŏŐőŒœŔŕŖŗŘřŚśŜŝŞşŠšŢţŤťŨũŪūŬŭŮů"
    "ŰűŴŵŶŷŸŹźŻżŽžƒǍǎǏǐǑǒǓǔǢǣǦǧǨǩǰǴǵȘșȚțȲȳḂḃḍḞḟḠḡḥḰḱḷṃṅṇṛṣṭẎẏẐẑẞỲỳ"
    "‐–—―‘’“”†‡•…‰‱※⁄₡₤₦₩₫€₱℃№℗℠™℧℮"
)
# Those that only the font encoding T1 has.
ONLY_T1 = frozenset("ÐÞðþĄąĐđĘęĮįŊŋŲųǪǫ")
# Accents by the combining letter into which Unicode takes an accented letter apart.
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
# LaTeX's signs for letters that Unicode calls raised or lowered forms of others.
SCRIPTS = {"<sub>": "_", "<super>": "^"}
# A letter with the accents that follow it.
LETTER = re.compile(r".[\u0300-\u036f]*", re.DOTALL)
SYMBOLS = {
    # Reversed, so that of two commands for one letter the first is kept.
    **{letter: f"$\\{command}$" for command, letter in reversed(COMMANDS.items()) if letter},
    # LaTeX has no commands for the Greek letters that look like Latin ones.
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo", strict=True)),
    "μ": r"$\mu$",
    "−": "$-$",
    "✗": r"$\times$",
    "⊘": r"$\oslash$",
    "≠": r"$\neq$",
    "←": r"$\leftarrow$",
    "∗": "{*}",
    # quotation marks that only T1 has, by signs that every encoding has
    "«": r"$\ll$",
    "»": r"$\gg$",
    "‹": "$<$",
    "›": "$>$",
    "‚": ",",
    "„": ",,",
}


def escape(text: str) -> str:
    """Return `text` such that pdflatex prints it; a letter that it cannot set becomes its code.

    The maths of a name stays as it was written.
    """
    if isinstance(text, Name):
        return "".join(f"${part}$" if is_maths else _escaped(part) for is_maths, part in text.parts)
    return _escaped(text)


def needs_t1(text: str) -> bool:
    """Tell whether LaTeX source has letters that only the font encoding T1 has."""
    return not ONLY_T1.isdisjoint(text)


def _escaped(text: str) -> str:
    start, end = text[:1], text[-1:]
    # NFC makes one letter of most letters with accents, and `NATIVE` knows them as such.
    words = " ".join(unicodedata.normalize("NFC", text).split())
    # a space beside maths is one
    before = " " if start.isspace() and words else ""
    after = " " if end.isspace() else ""
    return "".join(map(_letter, LETTER.findall(f"{before}{words}{after}")))


def _letter(letter: str) -> str:
    """Return the source of a letter, which may come with combining accents."""
    if letter in ESCAPES:
        return ESCAPES[letter]
    if letter.isascii() or letter in NATIVE or letter in ONLY_T1:
        return letter
    return SYMBOLS.get(letter) or _accented(letter) or _plain(letter) or _code(letter)


def _accented(letter: str) -> str:
    """Return a letter below LaTeX's accents; empty where LaTeX has no such letter or accent."""
    form = unicodedata.normalize("NFD", letter)
    source = form[0] if form[0].isascii() else ""
    for mark in form[1:]:
        source = rf"\{ACCENTS[mark]}{{{source}}}" if source and mark in ACCENTS else ""
    return source


def _plain(letter: str) -> str:
    """Return the ASCII letters that a letter is a form of, such as a ligature or a fraction."""
    form = unicodedata.normalize("NFKC", letter)
    if not form.isascii():
        return ""
    source = "".join(ESCAPES.get(part, part) for part in form)
    sign = SCRIPTS.get(unicodedata.decomposition(letter).partition(" ")[0])
    return f"${sign}{{{source}}}$" if sign else source


def _code(letter: str) -> str:
    return "".join(f"{{[}}U+{ord(part):04X}{{]}}" for part in letter)
