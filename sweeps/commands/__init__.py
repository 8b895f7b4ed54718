"""One file per command of the CLI: `add` declares its arguments, the function beside it runs it.

Imports that take long stand in these functions, so that `--help`, a mistyped argument and the
commands that need neither torch nor Ray answer at once.
"""
