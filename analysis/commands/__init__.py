"""The commands of `python -m analysis`, one file each: `add` declares the arguments, the function
beside it does it.
"""
