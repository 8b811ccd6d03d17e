"""``python -m datamill`` is the command ``datamill``."""

import sys

from ._command import main

if __name__ == "__main__":
    sys.exit(main())
