"""Decides which trials are tried and which go on."""
