"""Runs a stage and publishes what it made."""
