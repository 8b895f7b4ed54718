"""The one training loop, and how its batches spread over processes."""
