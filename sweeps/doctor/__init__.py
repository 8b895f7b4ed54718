"""Checks machines before hours are spent."""
