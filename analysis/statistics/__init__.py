"""Numbers in, numbers out: intervals, p-values, variance components, power."""
