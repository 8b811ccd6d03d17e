"""The main module of a child that `multiprocessing` started from a program of OpenMSIStream."""

import os
from pathlib import Path

from datamill.openmsistream import _hook, _program

_hook.install(tuple(word for word in os.environ[_program.OPTIONS].split("\n") if word))
__file__ = os.environ[_program.PROGRAM]
_program.execute(Path(__file__), globals())
