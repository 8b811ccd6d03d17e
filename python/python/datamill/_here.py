"""Takes the command line of another program ``datamill`` over, which has found the package in this interpreter."""

import sys

from ._command import main

if __name__ == "__main__":
    sys.exit(main(is_here=True))
