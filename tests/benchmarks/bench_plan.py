"""Cost of planning: a grid of 792 trials, and one of 10,560, from the file's values to the
printed plan.

The grid: 2 backbones x (no erasing, 5 lambdas each of two ways) x 3 alpha pairs x 4 alphas of the
walk x 3 seeds. Its distinct stages are known by arithmetic: 6 classifiers, 60 CGNets, 66 CAMs, 198
AffinityNets, 792 of what follows. The ratio is what planning each trial by itself would take, which
shares nothing between trials.

Run: python tests/benchmarks/bench_plan.py
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.plan.costs import make_costs
from sweeps.plan.past_runs import PastRuns
from sweeps.plan.plan import Plan, make_plan
from sweeps.plan.plan_text import describe
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, trials
from sweeps.store.store import Store

PAIRS = [(4, 24), (4, 32), (6, 24)]
EXPECTED = {
    "TrainClassifier": 6,
    "TrainCGNet": 60,
    "MakeCam": 66,
    "TrainAffinity": 198,
    "TrainSegmentation": 792,
}


def spec_of(*, walks: int, seeds: int) -> Spec:
    """The grid, with as many alphas of the walk and seeds."""
    named = {
        f"{backbone} {low}/{high}": {
            "oc.backbone": backbone,
            "cgnet.backbone": backbone,
            "crf_low.alpha": low,
            "crf_high.alpha": high,
        }
        for backbone in ("tiny", "resnet50")
        for low, high in PAIRS
    }
    grid = {
        "cam.source": ["oc", "cgnet"],
        "cgnet.erasing": ["class_agnostic", "cse"],
        "cgnet.lambda_start": [1, 2, 3, 4, 5],
        "pseudo.alpha_walk": list(range(8, 8 + walks)),
    }
    base = {"data.kind": "shapes", "*.init": "random", "crf.alpha": 4}
    values = {
        "name": "s",
        "question": "why?",
        "base": base,
        "variants": named,
        "grid": grid,
        "seeds": seeds,
    }
    return Spec.model_validate(values)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The answer, and the seconds of this process and by the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    answer = call()
    return answer, time.process_time() - cpu, time.perf_counter() - wall


def whole(spec: Spec, store: Store) -> tuple[list[Trial], Plan]:
    """All that `sweeps plan` does after it has read the file."""
    found = trials(spec)
    plan = make_plan(found, stored=store.present, resources=spec.resources_of)
    machines = [{"CPU": 64.0, "GPU": 8.0}]
    costs = make_costs(
        plan, PastRuns(store.manifests()), machines=machines, resources=spec.resources_of
    )
    describe(plan, spec, costs)
    return found, plan


def main() -> None:
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for walks, seeds, below in ((4, 3, 2), (16, 10, 30)):
            spec = spec_of(walks=walks, seeds=seeds)
            (found, plan), cpu, wall = timed(lambda spec=spec: whole(spec, store))
            alone = [
                lambda trial=trial: make_plan([trial], stored=store.present)
                for trial in found[:100]
            ]
            _, each, _ = timed(lambda alone=alone: [one() for one in alone])
            _, together, _ = timed(lambda found=found: make_plan(found, stored=store.present))
            print(
                f"{len(found)} trials: {cpu:.2f} s of CPU, {wall:.2f} s (below {below} s); "
                f"stages of all together "
                f"{each * len(found) / len(alone) / together:.1f} times faster than trial by trial"
            )
            counts = {row.kind: row.distinct for row in plan.rows}
            print("  distinct: " + ", ".join(f"{kind} {counts[kind]}" for kind in EXPECTED))
            assert len(found) != 792 or EXPECTED.items() <= counts.items()


if __name__ == "__main__":
    main()
