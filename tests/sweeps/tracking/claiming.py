"""A driver of its own process that opens the record of a sweep: `claiming.py URI NAME ALPHA`."""

import sys
import time

from probe_stages import Probe, make_trial

from sweeps.spec.model import Spec
from sweeps.tracking.writer import Tracking


def spec_of(name: str, alpha: int) -> Spec:
    return Spec(name=name, question="Whose record?", baseline={}, base={"crf.alpha": alpha})


if __name__ == "__main__":
    uri, name, alpha = sys.argv[1:]
    tracking = Tracking(uri, spec=spec_of(name, int(alpha)), source=f"{name}-{alpha}.yaml")
    tracking.open([make_trial(0, data=Probe(label=alpha))])
    print("open", flush=True)
    time.sleep(3600)
