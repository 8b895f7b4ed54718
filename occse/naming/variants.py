"""Short names of variants, from the parts `knob=value` that tell them apart."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from occse.naming.labels import Labels
from occse.naming.markup import Name, join, quoted

# Name of the variant that a sweep's file has as its baseline beside `variants`.
BASELINE = "baseline"
Part = tuple[str, str]  # head and value; a name that a person gave has no head


@dataclass(frozen=True)
class Parts:
    """Parts of the names of the variants of a sweep.

    Attributes:
        own: parts by variant.
        owners: variants that have a part, by part.
    """

    own: Mapping[str, Sequence[Part]]
    owners: Mapping[Part, frozenset[str]]

    def is_shared(self, part: Part) -> bool:
        """Tell whether all variants have the part."""
        return len(self.own) > 1 and len(self.owners[part]) == len(self.own)

    def is_implied(self, part: Part, index: int, parts: Sequence[Part]) -> bool:
        """Tell whether another of `parts` never stands without this one, which is at `index`."""
        for other_index, other in enumerate(parts):
            if other_index == index or self.is_shared(other):
                continue
            having = self.owners[other]
            # of two that always stand together the first is kept
            if having <= self.owners[part] and (other_index < index or having != self.owners[part]):
                return True
        return False


def marked_baseline(name: str, *, shown: str | None = None) -> str:
    """Return the name of a baseline with a remark that it is one, unless the name says so.

    Args:
        name: of the baseline.
        shown: what stands for the name where it is printed; by default the name.
    """
    text = name if shown is None else shown
    return text if re.match(rf"{BASELINE}\b", name) else f"{text} ({BASELINE})"


def split_variant(variant: str) -> list[Part]:
    """Return the parts of a variant as the platform names it, `name, knob=value, knob=value`.

    A value may hold a comma of its own (a list), so a part ends only where another knob begins.
    """
    parts = []
    for text in re.split(r", (?=[\w.*]+=)", variant):
        head, equals, value = text.partition("=")
        is_knob = equals and re.fullmatch(r"[\w.*]+", head)
        parts.append((head, value) if is_knob else ("", text))
    return parts


def split_variants(variants: Iterable[str]) -> Parts:
    """Return the parts of several variants."""
    own = {variant: split_variant(variant) for variant in variants}
    owners: dict[Part, set[str]] = {}
    for variant, parts in own.items():
        for part in parts:
            owners.setdefault(part, set()).add(variant)
    return Parts(own, {part: frozenset(having) for part, having in owners.items()})


def variant_names(
    variants: Iterable[str],
    labels: Labels,
    *,
    knobs: Mapping[Part, str],
    separator: str = ", ",
) -> dict[str, Name]:
    """Return short names of the variants of a sweep: what all share and what follows is left out.

    A part follows if another part of the same variant never stands without it: `erasing=cse`
    implies `source=cgnet`. Where that leaves nothing, or the same for two, more is said.

    Args:
        variants: as the platform names them.
        labels: for knobs and values.
        knobs: the knob with its stage that a part is about; by default its head.
        separator: between the parts of a name.
    """
    parts = split_variants(variants)

    def text(part: Part) -> Name:
        head, value = part
        return (
            labels.part(knobs.get(part, head), value, short=head) if head else Name(quoted(value))
        )

    def in_full(part: Part) -> Name:
        head, value = part
        return Name(quoted(f"{head}={value}" if head else value))

    def telling(part: Part, index: int, own: Sequence[Part]) -> bool:
        return not parts.is_shared(part) and not parts.is_implied(part, index, own)

    def unshared(part: Part, index: int, own: Sequence[Part]) -> bool:
        return not parts.is_shared(part)

    def every(part: Part, index: int, own: Sequence[Part]) -> bool:
        return True

    # From the shortest names to the fullest; the first way that tells all variants apart is taken.
    ways: list[tuple[Callable[[Part], Name], Callable[[Part, int, Sequence[Part]], bool]]] = [
        (text, telling),
        (text, unshared),
        (text, every),
        (in_full, every),
    ]
    names: dict[str, Name] = {}
    for shown, is_kept in ways:
        for variant, own in parts.own.items():
            kept = [part for index, part in enumerate(own) if is_kept(part, index, own)]
            names[variant] = join(separator, map(shown, kept))
        if all(names.values()) and len(set(names.values())) == len(names):
            break
    return names
