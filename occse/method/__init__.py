"""The paper as functions on tensors: read this first."""
