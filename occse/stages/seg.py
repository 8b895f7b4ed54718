"""`seg`: predictions of the segmentation network on the validation split, and the final score."""

import numpy as np
from pydantic import Field

from occse.crf import PRESETS, dense_crf
from occse.data.batches import same_size_batches
from occse.data.dataset import load_dataset
from occse.data.voc import write_label_map
from occse.deeplab import load_deeplab, multi_scale_scores
from occse.evaluation import CountsBuilder
from occse.stage import Context, Resources, Stage
from occse.stages.cam import BATCH
from occse.stages.crf import LABELS
from occse.stages.scored import scores_of
from occse.stages.trained import MODEL


class Segment(Stage):
    """Label maps of `val`: scores of all scales and mirror images averaged, then a dense CRF if `crf` says so."""

    scales: tuple[float, ...] = Field(default=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), min_length=1)
    flip: bool = True
    crf: bool = False

    def needs(self) -> tuple[str, ...]:
        """The data and the network."""
        return ("data", "deeplab")

    def resources(self) -> Resources:
        """A GPU."""
        return Resources(num_cpus=2, num_gpus=1)

    def run(self, ctx: Context) -> dict[str, float]:
        """Predict, store and score."""
        dataset = load_dataset(ctx.inputs["data"], data_root=ctx.data_root)
        network = load_deeplab(ctx.inputs["deeplab"] / MODEL, device=ctx.device)
        counts = CountsBuilder(dataset.classes)
        (ctx.output / LABELS).mkdir()
        for names, images in same_size_batches(dataset, dataset.splits["val"], limit=BATCH):
            scores = multi_scale_scores(network, images, scales=self.scales, flip=self.flip, device=ctx.device).numpy()
            for name, image, score in zip(names, images, scores, strict=True):
                if self.crf:
                    score = dense_crf(image, score, preset=PRESETS["seam"])
                labels = score.argmax(0).astype(np.uint8)
                write_label_map(ctx.output / LABELS / f"{name}.png", labels)
                counts.add_labels(name, labels, gt=dataset.mask(name))
        return scores_of(counts, dataset, ctx.output)
