"""Overrides of the profile `embedded`: so few images that a stage takes a second."""

SMALL = {
    "data.num_train": 16,
    "data.num_scored": 8,
    "data.num_val": 4,
    "data.num_object_centric": 32,
    "*.epochs": 1,
    "*.batch_size": 8,
    "cam.scales": [1.0],
    "seg.scales": [1.0],
    "erase_and_infer.scales": [1.0],
    "erase_and_infer.num_erasures": 2,
}
