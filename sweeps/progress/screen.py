"""The sweep's status for a terminal, with rich: the live view of `run`, and what `status` prints
once.
"""

from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.progress.status import RunningStage, Status
from sweeps.text import duration, number

COLORS = {
    "queued": "",
    "running": "yellow",
    "done": "green",
    "reused": "cyan",
    "failed": "bold red",
}
MOST_RUNNING = 8


def render(status: Status) -> RenderableType:
    """The status as rich shows it."""
    parts: list[RenderableType] = [_stages(status)]
    parts += [_running(stage) for stage in status.running[:MOST_RUNNING]]
    if (more := len(status.running) - MOST_RUNNING) > 0:
        parts.append(Text(f"  ... and {number(more, 'more running stage')}"))
    parts += [Text(f"FAILED {failure}", style="red") for failure in status.failed]
    return Group(*parts, *_sums(status))


def _stages(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for name in COLORS:
        table.add_column(name, justify="right")
    for row in status.stages:
        table.add_row(row.fields, *(_count(name, getattr(row, name)) for name in COLORS))
    return table


def _count(name: str, count: int) -> Text:
    return Text(str(count), COLORS[name]) if count else Text("·", "dim")


def _running(stage: RunningStage) -> Text:
    how_far = f", {stage.epochs}" if stage.epochs else ""
    text = f"  {stage.field} {stage.fingerprint[:8]}  {duration(stage.seconds)}{how_far}  {stage.trial}"
    return Text(text, style="yellow", no_wrap=True, overflow="ellipsis")


def _sums(status: Status) -> Iterator[Text]:
    all_stages = sum(
        row.queued + row.running + row.done + row.reused + row.failed for row in status.stages
    )
    done = sum(row.done + row.reused for row in status.stages)
    yield Text(
        f"{done} of {all_stages} stages, {status.trials_done} of {number(status.trials, 'trial')}; {status.left}",
        style="bold",
    )
    yield Text(
        f"stage time: {duration(status.spent_s)} spent, {duration(status.saved_s)} saved by sharing"
    )
    if status.gpu_spent_s + status.gpu_saved_s:
        yield Text(
            f"GPU hours: {status.gpu_spent_s / 3600:.2f} spent, {status.gpu_saved_s / 3600:.2f} saved"
        )


class Screen:
    """Where `run` shows what happens: lines, and below them, on a terminal, the live view.

    While entered on a terminal, lines scroll above the view, which is redrawn in place and stays at
    the end."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def __enter__(self) -> "Screen":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def live(self) -> bool:
        """Whether there is a terminal to show the view on."""
        return self._console.is_terminal

    def say(self, line: str) -> None:
        """Print a line."""
        if self.live:
            self._console.print(Text(line))
        else:
            print(line, flush=True)  # noqa: T201 - what a terminal-less log takes

    def show(self, status: Status) -> None:
        """Redraw the view, on a terminal."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(render(status), refresh=True)


def describe(status: Status, *, now: float) -> Iterator[str]:
    """Whether the driver of a sweep is alive, and what to do if not."""
    where = (
        f"on {status.host}, process {status.pid}, for {duration(status.updated - status.started)}"
    )
    ago = f"{duration(now - status.updated)} ago"
    if status.alive(now):
        yield f"{status.name}: {status.state} {where}; told {ago}"
    elif status.state in ("running", "stopping"):
        yield f"{status.name}: its driver is gone; it ran {where}, and was last seen {ago}"
    else:
        yield f"{status.name}: {status.state} {ago}; it ran {where}"
    if not status.alive(now) and status.state != "ended":
        yield f"to go on: {status.command}"
