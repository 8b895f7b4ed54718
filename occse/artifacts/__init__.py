"""Runs a stage and publishes its artifact."""
