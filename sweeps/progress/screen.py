"""The sweep's status for a terminal: the live view of `run`, and the output of `status`."""

from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from occse.artifacts.secrets import masked
from occse.naming.counts import number
from sweeps.progress.status import RunningStage, Status
from sweeps.text import duration

COLORS = {
    "queued": "",
    "running": "yellow",
    "done": "green",
    "reused": "cyan",
    "failed": "bold red",
}
ENDED = {
    "ended": "ended well",
    "failed": "ended with failures",
    "stopped": "stopped before its end",
}
# The live view is redrawn in place, so it must stay within a terminal of 24 lines.
MOST_RUNNING = 8


def render(status: Status) -> RenderableType:
    """Return the status as rich shows it."""
    parts: list[RenderableType] = [_stages(status)]
    parts += [_running(stage) for stage in status.running[:MOST_RUNNING]]
    if (more := len(status.running) - MOST_RUNNING) > 0:
        parts.append(Text(f"  ... and {number(more, 'more running stage')}"))
    parts += [Text(f"FAILED {failure}", style="red") for failure in status.failed]
    return Group(*parts, *_sums(status))


def _stages(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    # Once a sweep has ended, nothing is queued or runs, unless its driver died.
    names = [
        name
        for name in COLORS
        if status.lives or name == "done" or any(getattr(row, name) for row in status.stages)
    ]
    for name in names:
        table.add_column(name, justify="right")
    for row in status.stages:
        table.add_row(row.fields, *(_count(name, getattr(row, name)) for name in names))
    return table


def _count(name: str, count: int) -> Text:
    return Text(str(count), COLORS[name]) if count else Text("·", "dim")


def _running(stage: RunningStage) -> Text:
    how_far = f", {stage.epochs}" if stage.epochs else ""
    took = f"{duration(stage.seconds)}{how_far}"
    text = f"  {stage.field} {stage.fingerprint[:8]}  {took}  {stage.trial}"
    return Text(text, style="yellow", no_wrap=True, overflow="ellipsis")


def _sums(status: Status) -> Iterator[Text]:
    all_stages = sum(
        row.queued + row.running + row.done + row.reused + row.failed for row in status.stages
    )
    done = sum(row.done + row.reused for row in status.stages)
    trials = f"{status.trials_done} of {number(status.trials, 'trial')}"
    left = f"; {status.left}" if status.lives else ""
    yield Text(f"{done} of {number(all_stages, 'stage')}, {trials}{left}", style="bold")
    spent = duration(status.spent_s)
    yield Text(f"stage time: {spent} spent, {duration(status.saved_s)} saved by sharing")
    if status.gpu_spent_s + status.gpu_saved_s:
        gpu_spent = f"{status.gpu_spent_s / 3600:.2f} spent"
        yield Text(f"GPU hours: {gpu_spent}, {status.gpu_saved_s / 3600:.2f} saved")


class Screen:
    """Output of `run`: lines, and on a terminal the live view below them.

    While entered on a terminal, lines scroll above the view, which is redrawn in place. The view
    stays when the screen is left."""

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
        """True where the output is a terminal, which can show the view."""
        return self._console.is_terminal

    def say(self, line: str) -> None:
        """Show a line, without secrets."""
        line = masked(line)
        if self.live:
            self._console.print(Text(line))
        else:
            # A log takes lines as they are: rich would break them at 80 columns.
            print(line, flush=True)  # noqa: T201

    def show(self, status: Status) -> None:
        """Redraw the view on the terminal."""
        if self._live is None:
            # Redrawn when the status changes; rich would start a thread of its own for it.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(render(status), refresh=True)


def describe(status: Status, *, now: float) -> Iterator[str]:
    """Yield the state of a sweep's driver, and the command that goes on where it did not end."""
    ran = duration(status.updated - status.started)
    ago = f"{duration(now - status.updated)} ago"
    if status.alive(now):
        where = f"on {status.host}, process {status.pid}, for {ran}"
        yield f"{status.name}: {status.state} {where}; written {ago}"
    elif status.lives:
        where = f"on {status.host}, process {status.pid}, for {ran}"
        yield f"{status.name}: its driver is gone; it ran {where}, and was last seen {ago}"
    else:
        how = ENDED.get(status.state, status.state)
        yield f"{status.name}: {how} {ago}, after {ran} on {status.host}"
    if status.tracking:
        yield f"recorded at {status.tracking}"
    if not status.alive(now) and status.state != "ended":
        yield f"to go on: {status.command}"
