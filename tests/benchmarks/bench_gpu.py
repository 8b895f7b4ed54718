"""Images per second of CGNet's training and of multi-scale CAMs on a GPU, as one setting after the
other is added.

The images are drawn, stored as JPEG and decoded as those of a data set; training is the stage's own
loop. A row keeps the settings of the rows above it. No stage offers `compile` yet: this is what it
would bring. Differences are those of the normalized CAMs (0 to 1) from the ones of the first row;
`--network` takes them from a trained classifier, without it the weights are random. Run: python
tests/benchmarks/bench_gpu.py (see --help)"""

import argparse
import io
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from occse.data.transforms import classification_view
from occse.method.cam import multi_scale_cam
from occse.method.crf import PRESETS, dense_crf
from occse.method.crf_torch import dense_crf_batch
from occse.networks.checkpoint import place
from occse.networks.classifier import Classifier, load_classifier
from occse.networks.names import Precision
from occse.networks.precision import in_precision
from occse.stage import Context, Machine
from occse.stages.cgnet import TrainCGNet
from occse.stages.learning import fit
from occse.training.adversarial import ErasingChoices, adversarial_loss
from occse.training.loop import Step

CLASSES = 20
SIZE = (375, 500)


@dataclass(frozen=True, kw_only=True)
class Setting:
    name: str
    channels_last: bool = True
    workers: int = 0
    precision: Precision = "float32"
    compiled: bool = False

    def layout(self) -> AbstractContextManager[object]:
        """occse always takes channels_last; without it, that name means the other layout."""
        return (
            nullcontext()
            if self.channels_last
            else mock.patch.object(torch, "channels_last", torch.contiguous_format)
        )


class Photos:
    """Smooth random colours in JPEG, with one or two labels."""

    def __init__(self, count: int, *, crop: int) -> None:
        generator = np.random.default_rng(0)
        self.files = []
        for _ in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            file = io.BytesIO()
            coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(file, "JPEG")
            self.files.append(file.getvalue())
        self.crop = crop
        self.labels = torch.zeros(count, CLASSES)
        self.labels[torch.arange(count), torch.arange(count) % CLASSES] = 1
        self.labels[::2, 0] = 1

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.files[index])).convert("RGB"))

    def sample(self, index: int, generator: Generator) -> tuple[Tensor, Tensor]:
        view = classification_view(
            self.image(index),
            long_side=(256, 448),
            jitter=0.3,
            hue=0.1,
            crop=self.crop,
            generator=generator,
        )
        return view, self.labels[index]


def networks(options: argparse.Namespace, setting: Setting, count: int) -> list[Classifier]:
    """The same weights each time, on the device, compiled or not."""
    torch.manual_seed(0)
    made = [Classifier(options.backbone, CLASSES) for _ in range(count)]
    if options.network is not None:
        made = [load_classifier(options.network, device=options.device) for _ in range(count)]
    for network in made:
        place(network, options.device).eval()
        if setting.compiled:
            network.compile()
    return made


def train(options: argparse.Namespace, setting: Setting, *, batch: int) -> float:
    """Images per second of CGNet's training, by the median step."""
    photos = Photos(batch * options.steps, crop=options.crop)
    stage = TrainCGNet(
        backbone=options.backbone,
        init="random",
        epochs=1,
        batch_size=batch,
        precision=setting.precision,
    )
    model, oc = networks(options, setting, 2)
    oc.requires_grad_(False)
    times: list[float] = []

    erasing = ErasingChoices(
        mode=stage.erasing,
        lambda_start=stage.lambda_start,
        lambda_slope=stage.lambda_slope,
        mask_max=stage.mask_max,
        mask_threshold=None,
        remaining=stage.remaining,
        weights=None,
    )
    adversarial = adversarial_loss(model, oc, erasing)

    def loss(batch: tuple[Tensor, ...], step: Step) -> dict[str, Tensor]:
        times.append(time.perf_counter())
        return adversarial(batch, step)

    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            output=Path(folder),
            scratch=Path(folder),
            machine=Machine(device=options.device, workers=setting.workers),
        )
        fit(stage, context, model, photos, loss)
    # the first ones compile, choose kernels, start workers
    steps = np.diff(times)[len(times) // 3 :]
    return batch / statistics.median(steps)


def infer(options: argparse.Namespace, setting: Setting) -> tuple[float, list[np.ndarray]]:
    """Images per second of CAMs at four scales, mirrored, and the CAMs."""
    photos = Photos(options.images, crop=options.crop)
    (network,) = networks(options, setting, 1)
    images = np.stack([photos.image(index) for index in range(len(photos))])

    def run() -> list[np.ndarray]:
        return multi_scale_cam(
            in_precision(network, setting.precision),
            images,
            present=[
                photos.labels[index].nonzero().flatten().tolist() for index in range(len(photos))
            ],
            scales=options.scales,
            flip=True,
            device=options.device,
        )

    run()  # compile, choose kernels
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        cams = run()  # on the CPU at the end: nothing is left to wait for
        seconds.append(time.perf_counter() - start)
    return len(photos) / statistics.median(seconds), cams


def table(
    title: str, settings: list[Setting], measure: Callable[[Setting], tuple[float, str]]
) -> None:
    print(f"\n| {title} | images/s | times the first | |\n| :-- | --: | --: | :-- |")
    first = 0.0
    for setting in settings:
        with setting.layout():
            rate, note = measure(setting)
        first = first or rate
        print(f"| {setting.name} | {rate:.1f} | {rate / first:.2f} | {note} |", flush=True)


def differences(cams: list[np.ndarray], exact: list[np.ndarray]) -> str:
    all_of = np.concatenate([np.abs(a - b).ravel() for a, b in zip(cams, exact, strict=True)])
    return f"CAMs differ by {all_of.mean():.1e} in the mean, {all_of.max():.1e} at most"


def crf_table(options: argparse.Namespace, *, labels: int) -> None:
    """Compare the CRF of one core with that of the device, on the same images and scores."""
    photos = Photos(options.images, crop=options.crop)
    images = [photos.image(index)[: options.rows] for index in range(len(photos))]
    height, width = images[0].shape[:2]
    coarse = torch.rand(len(images), labels, 12, 16, generator=torch.Generator().manual_seed(0))
    scores = list(torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").numpy())
    preset = PRESETS["psa"]
    exact: list[np.ndarray] = []

    def measure(setting: Setting) -> tuple[float, str]:
        start = time.perf_counter()
        if setting.name.startswith("pydensecrf"):
            exact.extend(
                dense_crf(image, score, preset=preset)
                for image, score in zip(images, scores, strict=True)
            )
            return len(images) / (time.perf_counter() - start), ""
        found = dense_crf_batch(images, scores, preset=preset, device=options.device)
        start = time.perf_counter()
        found = dense_crf_batch(images, scores, preset=preset, device=options.device)
        rate = len(images) / (time.perf_counter() - start)
        wrong = sum(
            int((ours.argmax(0) != theirs.argmax(0)).sum())
            for ours, theirs in zip(found, exact, strict=True)
        )
        most = max(np.abs(ours - theirs).max() for ours, theirs in zip(found, exact, strict=True))
        return rate, f"{wrong} labels differ, marginals by {most:.1e} at most"

    rows = [Setting(name="pydensecrf, one core"), Setting(name=f"torch, {options.device}")]
    table(f"dense CRF, {width} x {height}, {labels} labels", rows, measure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet38")
    parser.add_argument(
        "--network", type=Path, help="model.safetensors of a classifier with 20 classes"
    )
    parser.add_argument("--crop", type=int, default=384)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--images", type=int, default=8, help="of one batch of CAM inference")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=8, help="processes that load images")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds on a CPU: does the script work?"
    )
    options = parser.parse_args()
    options.rows = SIZE[0]
    if options.tiny:
        options.rows = 40
        options.backbone, options.crop, options.batches, options.steps = "tiny", 64, [2], 3
        options.images, options.scales, options.rounds, options.workers = 2, [0.25], 1, 1
    return options


def main() -> None:
    options = parse()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "bench_gpu: torch sees no GPU here; --device cpu --tiny shows that the script works"
        )
    torch.backends.cudnn.benchmark = True
    settings = [
        Setting(name="float32, contiguous", channels_last=False),
        Setting(name="channels_last"),
        Setting(name=f"loader workers: {options.workers}", workers=options.workers),
        Setting(name="bfloat16", workers=options.workers, precision="bfloat16"),
    ]
    if not options.tiny:
        last = {"workers": options.workers, "precision": "bfloat16"}
        settings.append(Setting(name="compile", compiled=True, **last))
    on_gpu = options.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if on_gpu else platform.processor() or "CPU"
    print(
        f"{machine}, torch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%F')}, ",
        end="",
    )
    print(f"TF32 in convolutions: {torch.backends.cudnn.allow_tf32}")
    for batch in options.batches:
        title = f"CGNet, {options.backbone}, crop {options.crop}, batch {batch}"
        table(
            title, settings, lambda setting, batch=batch: (train(options, setting, batch=batch), "")
        )
    exact: list[np.ndarray] = []

    def measure(setting: Setting) -> tuple[float, str]:
        rate, cams = infer(options, setting)
        exact.extend(() if exact else cams)
        return rate, differences(cams, exact)

    scales = ", ".join(f"{scale:g}" for scale in options.scales)
    size = f"{SIZE[1]} x {SIZE[0]}"
    title = f"CAMs, {options.backbone}, {size}, scales {scales}, mirrored, batch {options.images}"
    table(title, [each for each in settings if not each.name.startswith("loader")], measure)
    for labels in (4, 21):
        crf_table(options, labels=labels)


if __name__ == "__main__":
    main()
