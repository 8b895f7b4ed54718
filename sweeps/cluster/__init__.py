"""Runs stages on Ray, each distinct one once; imports no torch."""
