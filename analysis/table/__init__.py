"""Rows and columns from results, in five formats."""
