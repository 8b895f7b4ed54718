"""Wishes of a person to a sweep that runs: a small file in its store that the driver reads.

It is in the store because the person's shell and the driver need not be on one machine."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sweeps.progress.status import running
from sweeps.store.process import this_process
from sweeps.store.store import CONTROL, Store


class Wishes(BaseModel):
    """Changes to a sweep that runs; `max_concurrent` is None where nobody asked for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paused: bool = False
    max_concurrent: int | None = Field(default=None, ge=1)


def read_wishes(store: Store, key: str) -> Wishes:
    """Return the wishes to the sweep with this key; none where there is no file that can be read.

    Raises:
        OSError: the store does not answer.
    """
    text = store.files.read(_name(key))
    if text is None:
        return Wishes()
    try:
        return Wishes.model_validate_json(text)
    except ValidationError:
        return Wishes()


def write_wishes(store: Store, key: str, wishes: Wishes) -> None:
    """Write the wishes to a sweep for its driver to read."""
    store.files.write(_name(key), wishes.model_dump_json().encode())


def forget_wishes(store: Store, key: str) -> None:
    """Remove the wishes to earlier drivers of a sweep, which would pause the next one.

    While another driver of the same sweep lives, they are wishes to that one, and stay.
    """
    other = running(store, key)
    if other is not None and other.process != this_process():
        return
    store.files.remove(_name(key))


def _name(key: str) -> str:
    return f"{CONTROL}/{key}.json"
