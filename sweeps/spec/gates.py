"""Gates of a sweep file: which variants go on to the expensive stages."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from occse.pipeline import scored_fields


def gate_fields() -> tuple[str, ...]:
    """Return the stages that a gate may stand behind: the scored ones."""
    return scored_fields()


def _scored(field: str) -> str:
    if field not in gate_fields():
        allowed = ", ".join(gate_fields())
        raise ValueError(f"expected a scored stage, one of {allowed}, got {field!r}")
    return field


class Gate(BaseModel):
    """Rule that says which variants run the stages behind the scored stage `after`.

    A variant is judged once, by the mean of `<after>/miou` over its seeds, so that a lucky seed is
    not picked. The baseline always goes on, and takes nobody's place. `top_k` and `margin` give the
    same answer in whatever order variants arrive. `asha` lets those go on that are good among the
    ones so far, so that no machine waits."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    after: Annotated[str, AfterValidator(_scored)] = Field(
        description="The scored stage whose miou is judged."
    )
    top_k: int | None = Field(
        default=None, ge=1, description="This many variants go on, the best ones."
    )
    asha: float | None = Field(
        default=None, gt=1, description="The best 1/asha of the variants so far go on."
    )
    margin: float | None = Field(
        default=None,
        description="How far below the baseline a variant may be to go on; 0.02 is 2 points.",
    )
    by: str | None = Field(
        default=None, description="A knob: variants are ranked among those with the same value."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> "Gate":
        rules = [rule for rule in (self.top_k, self.asha, self.margin) if rule is not None]
        if len(rules) != 1:
            raise ValueError("give one of `top_k`, `asha` and `margin`")
        return self

    def describe(self) -> str:
        """Return the rule as a sentence without a full stop."""
        if self.margin is not None:
            points = f"{100 * self.margin:g} points"
            return f"after {self.after}, variants at most {points} below the baseline go on"
        best = f"the best {self.top_k}"
        if self.asha is not None:
            best = f"the best 1/{self.asha:g} so far"
        of_each = f" of each {self.by}" if self.by else ""
        return f"after {self.after}, {best}{of_each} and the baseline go on"
