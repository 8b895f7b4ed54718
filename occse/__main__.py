"""`python -m occse`: one trial on one machine, without Ray or MLflow."""

import sys

from occse.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
