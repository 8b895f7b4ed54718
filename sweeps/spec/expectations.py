"""Claims of a sweep file: expectations that analysis can judge, beside those in prose."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from sweeps.spec.knobs import typed

# pydantic puts these tags of the two forms of a side into the place of an error
BY_NAME = "[name]"
BY_KNOBS = "[knobs]"

Knobs = Annotated[
    dict[str, Any],
    Field(min_length=1),
    AfterValidator(lambda knobs: {key: typed(key, value) for key, value in knobs.items()}),
]
Side = Annotated[
    Annotated[str, Tag(BY_NAME)] | Annotated[Knobs, Tag(BY_KNOBS)],
    Discriminator(lambda side: BY_KNOBS if isinstance(side, dict) else BY_NAME),
]


class Claim(BaseModel):
    """Order of two groups of trials in one score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compare: Side = Field(
        description="Knobs that the trials have, with their values, or the name of a variant."
    )
    against: Side | None = Field(
        default=None, description="The other trials, in the same form; by default the baseline."
    )
    metric: str = Field(description="The mIoU of a scored stage, such as cam/miou.")
    sign: Literal["+", "-"] = Field(
        description="+ where `compare` is better than `against`, - where it is worse."
    )
    text: str = Field(default="", description="The claim as a sentence, for people.")

    def describe(self) -> str:
        """Return the claim as a sentence without a full stop."""
        if self.text:
            return self.text
        order = "above" if self.sign == "+" else "below"
        against = "the baseline" if self.against is None else side_text(self.against)
        return f"{side_text(self.compare)} {order} {against} in {self.metric}"


def side_text(side: str | dict[str, Any]) -> str:
    """Return one side of a claim as text."""
    if isinstance(side, str):
        return side
    return ", ".join(f"{knob}={value}" for knob, value in side.items())
