"""A `Table` as LaTeX: a booktabs tabular to `\\input` into a table environment, with its legend
below.
"""

import unicodedata

from analysis.table.markdown import Style, header_texts, legend, row_texts, summary
from analysis.table.model import Table
from naming.markup import Name

# `[` and `*` at the start of a row would be read as arguments of the line break before it.
ESCAPES = str.maketrans(
    {
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
)


SYMBOLS = {
    **{symbol: f"${command}$" for symbol, command in {
        "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "λ": r"\lambda",
        "μ": r"\mu", "σ": r"\sigma", "τ": r"\tau", "±": r"\pm", "×": r"\times", "·": r"\cdot",
        "≥": r"\ge", "≤": r"\le", "→": r"\to", "Δ": r"\Delta", "−": "-", "✗": r"\times",
        "⊘": r"\oslash", "†": r"^\dagger", "²": "^2", "«": r"\ll", "»": r"\gg",
    }.items()},
    "§": r"\S{}",
    "µ": r"\textmu{}",
    "°": r"\textdegree{}",
    "€": r"\texteuro{}",
    "–": "--",
    "…": r"\dots{}",
}  # fmt: skip
# Letters of western and central Europe beside the accented ones of Latin-1.
LETTERS = frozenset("ßæÆøØåÅœŒþÞðÐ¡¿ĂăĄąĆćČčĎďĐđĘęĚěĞğİıĹĺĽľŁłŃńŇňŐőŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž")

# Those of them that only the font encoding T1 has.
ONLY_T1 = frozenset("ĄąĘęĐđÞþÐðĮįŲų")


def escape(text: str) -> str:
    """Return `text` such that pdflatex prints it; a letter that it cannot set becomes its code.

    The maths of a name stays as it was written.
    """
    if isinstance(text, Name):
        return "".join(f"${part}$" if is_maths else _escaped(part) for is_maths, part in text.parts)
    return _escaped(text)


def _escaped(text: str) -> str:
    start, end = text[:1], text[-1:]
    words = " ".join(text.split()).translate(ESCAPES)
    # a space beside maths is one
    before = " " if start.isspace() and words else ""
    after = " " if end.isspace() else ""
    return "".join(map(_letter, f"{before}{words}{after}"))


def _letter(letter: str) -> str:
    accented = ord(letter) < 0x100 and unicodedata.decomposition(letter)[:2] == "00"
    if letter.isascii() or accented or letter in LETTERS:
        return letter
    return SYMBOLS.get(letter, f"{{[}}U+{ord(letter):04X}{{]}}")


LATEX = Style(
    escape=escape,
    bold=lambda text: rf"\textbf{{{text}}}",
    second=lambda text: rf"\underline{{{text}}}",
    second_is="underlined",
    plus_minus=r"$\pm$",
    minus="$-$",
    dagger=r"$^\dagger$",
    section=r"$^\S$",
    glyphs={
        "failed": r"$\times$",
        "pending": r"\dots{}",
        "stopped": r"$\oslash$",
        "empty": "--",
        "unknown": "?",
    },
)


def latex(table: Table) -> str:
    """Return the tabular: a caption's content in comments above it, a reader's notes below it."""
    rows = [f"{' & '.join(texts)} \\\\" for texts in row_texts(table, LATEX)]
    notes = legend(table, LATEX)
    needs = r"\usepackage{booktabs}"
    if ONLY_T1 & set("".join([*rows, *header_texts(table, LATEX), *notes])):
        needs += r" and \usepackage[T1]{fontenc}"
    caption = filter(None, (escape(table.title), *summary(table, LATEX), f"Needs {needs}."))
    lines = [
        *(f"% {line}" for line in caption),
        rf"\begin{{tabular}}{{{'l' * len(table.heads)}{'r' * (1 + len(table.columns))}}}",
        r"\toprule",
        f"{' & '.join(header_texts(table, LATEX))} \\\\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if notes:
        lines += [r"\par\smallskip", *(rf"{{\footnotesize {note}\par}}" for note in notes)]
    return "\n".join(lines) + "\n"
