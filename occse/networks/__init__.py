"""The networks, their checkpoints and the precision that they compute in."""
