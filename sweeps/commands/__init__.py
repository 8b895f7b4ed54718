"""The commands of `python -m sweeps`, one file each: `add` declares the arguments, the function
beside it does it.
"""
