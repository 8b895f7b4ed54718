"""Rows and columns from results; `formats` prints them."""
