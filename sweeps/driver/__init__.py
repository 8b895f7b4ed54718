"""Runs a sweep from its trials to its records."""
