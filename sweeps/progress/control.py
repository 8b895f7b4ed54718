"""Wishes of a person to a sweep that runs: a small file in its store that the driver reads.

It is in the store because the person's shell and the driver need not be on one machine."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweeps.store.store import CONTROL, Store


class Wishes(BaseModel):
    """Changes to a sweep that runs; `max_concurrent` is None where nobody asked for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paused: bool = False
    max_concurrent: int | None = Field(default=None, ge=1)


def read_wishes(store: Store, sweep: str) -> Wishes:
    """Return the wishes to a sweep; none where there is no file, or one that cannot be read.

    Raises:
        OSError: the store does not answer.
    """
    text = store.files.read(_name(sweep))
    if text is None:
        return Wishes()
    try:
        return Wishes.model_validate_json(text)
    except ValidationError:
        return Wishes()


def write_wishes(store: Store, sweep: str, wishes: Wishes) -> None:
    """Write the wishes to a sweep for its driver to read."""
    store.files.write(_name(sweep), wishes.model_dump_json().encode())


def forget_wishes(store: Store, sweep: str) -> None:
    """Remove the wishes to a sweep: those to an earlier driver are none to the next one."""
    store.files.remove(_name(sweep))


def _name(sweep: str) -> str:
    return f"{CONTROL}/{sweep}.json"
