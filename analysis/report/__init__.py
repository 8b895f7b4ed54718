"""One file that holds what a sweep found: `python -m analysis report EXPERIMENT OUT`."""
