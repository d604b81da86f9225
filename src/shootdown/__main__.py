"""``python -m shootdown``: the same program as the command ``shootdown``."""

import sys

from shootdown.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
