"""State of a sweep as metrics for Prometheus, on the port of each node that Ray exports them on."""

from ray.util.metrics import Gauge

from sweeps.progress.status import Status

STATES = ("queued", "running", "done", "reused", "failed")


class Exported:
    """Gauges of one driver, with the sweep's name as a tag."""

    def __init__(self) -> None:
        self._stages = Gauge(
            "occse_stages",
            description="Distinct stages of a sweep by their state.",
            tag_keys=("sweep", "state"),
        )
        self._trials = Gauge(
            "occse_trials",
            description="Trials of a sweep, all and done.",
            tag_keys=("sweep", "state"),
        )
        self._gpu_seconds = Gauge(
            "occse_gpu_seconds",
            description="GPU seconds that stages held, and that sharing stages saved.",
            tag_keys=("sweep", "kind"),
        )

    def show(self, status: Status) -> None:
        """Set the gauges to the state of a sweep."""
        for state in STATES:
            number = sum(getattr(row, state) for row in status.stages)
            self._stages.set(number, {"sweep": status.name, "state": state})
        self._trials.set(status.trials, {"sweep": status.name, "state": "all"})
        self._trials.set(status.trials_done, {"sweep": status.name, "state": "done"})
        for kind, seconds in (("spent", status.gpu_spent_s), ("saved", status.gpu_saved_s)):
            self._gpu_seconds.set(seconds, {"sweep": status.name, "kind": kind})
