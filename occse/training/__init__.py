"""The one training loop, its optimizer, and batches that processes share."""
