"""The color jitter against torchvision's, which it does without: importing that takes as long as
importing torch.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from occse.data.transforms import color_jitter, uniform


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("jitter", "hue"), [(0.3, 0.0), (0.0, 0.3), (0.4, 0.1)])
def test_every_pixel_is_torchvision_s(seed: int, jitter: float, hue: float) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    ours = color_jitter(
        image, jitter=jitter, hue=hue, generator=torch.Generator().manual_seed(seed)
    )

    generator, theirs = torch.Generator().manual_seed(seed), Image.fromarray(image)
    for change in torch.randperm(4, generator=generator).tolist():
        if change < 3 and jitter > 0:
            adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)[change]
            theirs = adjust(theirs, uniform(1 - jitter, 1 + jitter, generator))
        elif change == 3 and hue > 0:
            theirs = tv.adjust_hue(theirs, uniform(-hue, hue, generator))
    np.testing.assert_array_equal(ours, np.array(theirs))


def test_a_stage_s_process_starts_without_torchvision() -> None:
    heavy = "{'torchvision', 'torch._dynamo', 'sympy'}"
    code = f"import sys, occse.artifacts.execute; print(*{heavy}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
