"""Finished artifacts by fingerprint, in a folder or on an object store."""
