"""Brings results of other programs into the record."""
