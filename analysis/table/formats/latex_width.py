"""The width of a table in LaTeX, estimated without LaTeX, and the sizes that make it fit.

The estimate takes the letters of Times, which CVPR, ICCV and most two-column styles set. In
Computer Modern the same table is up to a fifth wider: there LaTeX itself makes it smaller.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Width = Literal["column", "page"]

# Points of \columnwidth and \textwidth in the author kit of CVPR (two columns on letter paper).
BUDGETS: dict[Width, float] = {"column": 237.13, "page": 496.85}
# Points of an em of LaTeX's font sizes in a document of 10 points; smaller ones are hard to read.
SIZES = {"normalsize": 10.0, "small": 9.0, "footnotesize": 8.0}
# Points between columns and their rules: LaTeX's own, and what papers set where room is short.
SEPARATIONS = (6, 4, 3)
# Widths of letters in em, with the letters that are at most as wide; any other letter counts as 1.
LETTERS = (
    (0.28, " .,:;/|'`ijlt"),
    (0.34, "()[]!-Ifr"),
    (0.45, "aceszJ†‡"),
    (0.50, '0123456789bdghknopquvxy?*$"#_^~°§–'),
    (0.57, "FPS+=<>±−×"),
    (0.67, "BCELRTZ"),
    (0.73, "ADGHKNOQUVXYw"),
    (0.84, "m&%"),
    (0.95, "MW@"),
)
EMS: dict[str, float] = {}
for _width, _letters in reversed(LETTERS):
    EMS |= dict.fromkeys(_letters, _width)
# A command that prints nothing itself, and one that prints a sign.
SILENT = re.compile(r"\\(?:underline|textbf|bfseries|shortstack|footnotesize|tablenum\[[^]]*\]) ?")
SIGN = re.compile(r"\\[A-Za-z]+ ?(?:\{\})?|\\.")
# The spaces that maths puts around "±", of which `tight-spacing` of siunitx leaves none.
SPACES_EM = 0.45


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """Digits that a column of numbers needs, as siunitx's `table-format` counts them.

    Attributes:
        negative: a number has a minus sign.
        integer: digits before the point.
        decimals: digits behind it.
        uncertainty: digits of the largest deviation; 0 where there is none.
        is_tight: without spaces around "±".
    """

    negative: bool
    integer: int
    decimals: int
    uncertainty: int
    is_tight: bool = False

    @property
    def source(self) -> str:
        """The value of `table-format`."""
        sign = "-" if self.negative else ""
        deviation = f"({self.uncertainty})" if self.uncertainty else ""
        return f"{sign}{self.integer}.{self.decimals}{deviation}"

    @property
    def ems(self) -> float:
        """Width in em."""
        # A digit of Times takes half an em.
        digits = self.integer + self.decimals + self.uncertainty
        points = 2 if self.uncertainty else 1
        spaces = 0.0 if self.is_tight else SPACES_EM
        signs = EMS["±"] + spaces if self.uncertainty else 0.0
        signs += EMS["−"] if self.negative else 0.0
        return digits * 0.5 + points * EMS["."] + signs


def number_format(
    means: Sequence[str], deviations: Sequence[str], *, is_tight: bool = False
) -> NumberFormat:
    """Return the format of printed numbers that all have as many decimals."""
    wholes = [mean.lstrip("-").partition(".") for mean in means]
    spreads = [deviation.partition(".") for deviation in deviations]
    return NumberFormat(
        negative=any(mean.startswith("-") for mean in means),
        integer=max((len(whole) for whole, _, _ in wholes), default=1),
        decimals=max((len(part) for _, _, part in wholes), default=1),
        uncertainty=max((len(whole) + len(part) for whole, _, part in spreads), default=0),
        is_tight=is_tight,
    )


def ems(source: str) -> float:
    """Return the width of LaTeX source in em, of its widest line if it has several."""
    # A backslash of a name is `\textbackslash{}` by now, so `\\` only parts lines.
    lines = SILENT.sub("", source).split(r"\\")
    return max(sum(map(_letter_ems, _printed(line))) for line in lines)


def two_lines(source: str) -> str:
    """Return a heading in two lines of about the same width; one word stays as it is."""
    # a space within maths ends no word
    words = re.findall(r"(?:\\.|\$[^$]*\$|[^ $\\])+", source)
    if len(words) < 2:
        return source
    splits = [(" ".join(words[:end]), " ".join(words[end:])) for end in range(1, len(words))]
    first, second = min(splits, key=lambda lines: max(map(ems, lines)))
    return rf"\shortstack{{{first}\\{second}}}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The size in which a table is set.

    Attributes:
        size: LaTeX's name of the font size.
        separation: points on each side of a column.
        layout: index of the layout among those that were offered.
        width: of the table in points.
        budget: what it was meant for.
        fits: it is narrow enough; where not, it must be made smaller as a picture.
    """

    size: str
    separation: int
    layout: int
    width: float
    budget: Width
    fits: bool


def fit(layouts: Sequence[Sequence[float]], width: Width | None) -> Setting:
    """Return the first layout that fits in some size; the narrowest setting where none does.

    Args:
        layouts: for each layout the widths of its columns in em, the layout that readers like best
            first.
        width: the budget; None tries a column first, then the page.
    """
    budgets: tuple[Width, ...] = ("column", "page") if width is None else (width,)
    # A column in the narrowest layout comes before the page in the best one.
    for budget in budgets:
        for setting in _settings(layouts, budget):
            if setting.fits:
                return setting
    return min(_settings(layouts, budgets[-1]), key=lambda setting: setting.width)


def _settings(layouts: Sequence[Sequence[float]], budget: Width) -> list[Setting]:
    """Return all settings, the one that readers like best first."""
    settings = []
    # The outer loop weighs most: a smaller font comes before another layout.
    for index, columns in enumerate(layouts):
        for size, points in SIZES.items():
            for separation in SEPARATIONS:
                # `@{}` at both ends of the tabular takes the outer two separations away.
                total = points * sum(columns) + 2 * separation * (len(columns) - 1)
                setting = Setting(
                    size=size,
                    separation=separation,
                    layout=index,
                    width=total,
                    budget=budget,
                    fits=total <= BUDGETS[budget],
                )
                settings.append(setting)
    return settings


def _printed(source: str) -> str:
    """Return LaTeX source as letters of about the width of what it prints."""
    # A sign is at most as wide as "×".
    text = SIGN.sub("×", source)
    return "".join(letter for letter in text if letter not in "{}$")


def _letter_ems(letter: str) -> float:
    # An accent makes no letter wider.
    base = unicodedata.normalize("NFD", letter)[:1]
    return EMS.get(base, 1.0)
