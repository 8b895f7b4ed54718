r"""Text for people in which `$...$` is LaTeX maths: shown as Unicode, or set by LaTeX.

A user writes `$\lambda_{oc}$` in a label. A terminal, MLflow and a page show λ_oc; a LaTeX table
has the maths as it was written. Only the commands of `COMMANDS` are allowed, so that every label
has both forms, and so that a file of somebody else cannot make LaTeX read or write files."""

import difflib
import re
from collections.abc import Iterable, Iterator

# Commands by the text that shows them without LaTeX.
COMMANDS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε",
    "zeta": "ζ", "eta": "η", "theta": "θ", "vartheta": "ϑ", "iota": "ι", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "upsilon": "υ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π",
    "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "ell": "ℓ", "infty": "∞",
    "times": "×", "cdot": "·", "pm": "±", "to": "→", "rightarrow": "→", "leftarrow": "←",
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈",
    "sim": "∼", "in": "∈", "sum": "∑", "prod": "∏", "partial": "∂", "nabla": "∇", "circ": "°",
    "dagger": "†", "star": "⋆", "prime": "′", "ldots": "…", "dots": "…", "mid": "|", "cup": "∪",
    "cap": "∩", "setminus": "∖", "log": "log", "exp": "exp", "max": "max", "min": "min",
    # fonts and spaces, of which a text shows nothing
    "mathcal": "", "mathrm": "", "mathbf": "", "mathit": "", "mathsf": "", "text": "",
    "hat": "", "bar": "", "tilde": "", "left": "", "right": "",
    ",": " ", ";": " ", " ": " ", "{": "{", "}": "}", "_": "_", "%": "%", "&": "&", "#": "#",
    "$": "$",
}  # fmt: skip
TOKEN = re.compile(r"\\(?:[A-Za-z]+ ?|.)|[{}_^]|[^\\{}_^]+", re.DOTALL)
SCRIPTS = ("_", "^")
SIGNS = ("{", "}", *SCRIPTS)
# Text in maths that TeX takes as it is: no comment, no column of a table, no other alphabet.
PLAIN = re.compile(r"[A-Za-z0-9 +\-*/=<>(),.:;!?|'\[\]]*")
DIGITS_BELOW = str.maketrans("0123456789+-", "₀₁₂₃₄₅₆₇₈₉₊₋")
DIGITS_ABOVE = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
# A dollar sign that a backslash stands before is one of the text.
DOLLAR = re.compile(r"(?<!\\)\$")
Part = tuple[bool, str]  # whether it is maths, and its source


class Name(str):
    """Text for people; as a `str` it is Unicode, and `parts` has the maths as LaTeX.

    Code that treats it as any other text loses the LaTeX alone, never the meaning.
    """

    __slots__ = ("markup",)
    markup: str

    def __new__(cls, markup: str) -> "Name":
        """Read a text with maths.

        Raises:
            ValueError: see `check`.
        """
        check(markup)
        name = super().__new__(cls, "".join(_shown(part) for part in _parts(markup)))
        name.markup = markup
        return name

    def __reduce__(self) -> tuple[type["Name"], tuple[str]]:
        return (Name, (self.markup,))

    @property
    def parts(self) -> Iterator[Part]:
        """The text in order, each part with True where it is maths; a part is never empty."""
        return _parts(self.markup)


def join(separator: str, texts: Iterable[str]) -> Name:
    """Return texts as one, with the maths of those that have any."""
    return Name(quoted(separator).join(markup_of(text) for text in texts))


def markup_of(text: str) -> str:
    """Return the source of a text, in which a plain text has no maths."""
    return text.markup if isinstance(text, Name) else quoted(text)


def quoted(text: str) -> str:
    """Return a plain text as markup: its dollar signs are no maths."""
    return text.replace("$", r"\$")


def checked(markup: str) -> str:
    """Return a text with maths as it is.

    Raises:
        ValueError: see `check`, or it has characters that cannot be printed.
    """
    if not markup.isprintable():
        raise ValueError(f"expected printable characters, got {markup!r}")
    check(markup)
    return markup


def check(markup: str) -> None:
    r"""Check a text with maths.

    Raises:
        ValueError: a `$` is alone, braces do not pair, or a command is none of `COMMANDS`.
    """
    if len(DOLLAR.findall(markup)) % 2:
        raise ValueError(rf"{markup!r}: expected maths between two $, got one $; write \$ for it")
    for is_maths, source in _parts(markup):
        if is_maths:
            _check_maths(source)


def _check_maths(source: str) -> None:
    depth = 0
    before = ""
    for token in [*TOKEN.findall(source), ""]:
        # `^^5c` is a backslash to TeX, whatever command follows.
        if before in SCRIPTS and token in ("", "}", *SCRIPTS):
            raise ValueError(f"${source}$: expected something above or below, behind {before}")
        before = token
        if not token.startswith("\\") and token not in SIGNS and not PLAIN.fullmatch(token):
            raise ValueError(
                f"${source}$: expected letters, digits, signs and commands (\\lambda for λ, "
                f"\\% for %) in maths, got {token!r}"
            )
        command = token[1:].rstrip()
        if token.startswith("\\") and (command or " ") not in COMMANDS:
            near = difflib.get_close_matches(command, COMMANDS, n=3)
            choices = near or ["alpha", "lambda", "mathcal", "times"]
            told = ", ".join(rf"\{choice}" for choice in choices)
            raise ValueError(rf"${source}$: expected maths of known commands ({told}), got {token}")
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth < 0:
            break
    if depth != 0 or source.endswith("\\"):
        raise ValueError(f"${source}$: expected braces in pairs")


def _parts(markup: str) -> Iterator[Part]:
    for index, source in enumerate(DOLLAR.split(markup)):
        is_maths = index % 2 == 1
        if source:
            yield is_maths, source if is_maths else source.replace(r"\$", "$")


def _shown(part: Part) -> str:
    is_maths, source = part
    if not is_maths:
        return source
    text = ""
    script = ""  # `_` or `^` before what is read next
    depth = 0
    group = ""  # what stands in the braces behind it
    for token in TOKEN.findall(source):
        shown = COMMANDS[token[1:].rstrip() or " "] if token.startswith("\\") else token
        if not script:
            if token in "_^":
                script = token
            elif token not in "{}":
                text += shown
        elif token == "{":
            depth += 1
        elif token != "}":
            # without braces a script is one character long
            whole = depth > 0 or token.startswith("\\")
            group += shown if whole else shown[:1]
            if depth == 0:
                text += _script(script, group) + ("" if whole else shown[1:])
                script = group = ""
        else:
            depth -= 1
            if depth == 0:
                text += _script(script, group)
                script = group = ""
    return text


def _script(sign: str, text: str) -> str:
    """Return a sub- or superscript: digits as Unicode has them, other text behind the sign."""
    if re.fullmatch(r"[0-9+-]+", text):
        return text.translate(DIGITS_BELOW if sign == "_" else DIGITS_ABOVE)
    return {"°": "°", "′": "′", "†": "†"}.get(text, f"{sign}{text}")
