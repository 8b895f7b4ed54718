"""Names of the knobs, values and metrics of the embedded stages, where a user gives none."""

KNOBS = {
    "cgnet.lambda_start": r"$\lambda$",
    "cgnet.lambda_slope": r"$\lambda$ per epoch",
    "cgnet.mask_threshold": "mask threshold",
    "crf.alpha": r"$\alpha$",
    "crf_low.alpha": r"$\alpha_{low}$",
    "crf_high.alpha": r"$\alpha_{high}$",
    "pseudo.alpha_walk": r"$\alpha_{walk}$",
    "cgnet.erasing": "erasing",
    "cam.source": "maps of",
    "pseudo.source": "labels from",
}
VALUES = {
    "cgnet.erasing=cse": "CSE",
    "cgnet.erasing=class_agnostic": "class-agnostic",
    "cam.source=oc": "OC",
    "cam.source=cgnet": "CGNet",
    "pseudo.source=walk": "random walk",
    "pseudo.source=crf": "CRF",
    "pseudo.source=cam": "CAM",
}
METRICS = {
    "cam/miou": "CAM mIoU",
    "crf/miou": "CRF mIoU",
    "pseudo/miou": "Pseudo-label mIoU",
    "seg/miou": "Segmentation mIoU",
}
# The same where room is short, such as above a column of a paper.
NARROW_METRICS = {
    "pseudo/miou": "Pseudo mIoU",
    "seg/miou": "Seg. mIoU",
}
# The second part of a metric's name, whatever the stage is.
MEASURES = {
    "miou": "mIoU",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "threshold": "threshold",
    "loss": "loss",
}
