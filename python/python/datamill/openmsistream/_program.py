"""Runs a user's program as `__main__`, here and in the children that `multiprocessing` starts.

A child of `multiprocessing` (spawn, forkserver) imports its parent's main module again, by the name in its spec. That name
is here `datamill.openmsistream._child`, which installs the imports and then runs the program as a child should:

    parent: __main__.__spec__.name ──▶ child: runpy.run_module(name, run_name="__mp_main__") ──▶ program
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .._errors import DatamillError
from . import _hook

#: Tells a child which program it is of, and with which options of the engine.
PROGRAM = "DATAMILL_OPENMSISTREAM_PROGRAM"
OPTIONS = "DATAMILL_OPENMSISTREAM_OPTIONS"
_CHILD = "datamill.openmsistream._child"


def run(program: Path, options: tuple[str, ...]) -> None:
    """Runs the program in this process, as if Python had been started with it."""
    os.environ[PROGRAM], os.environ[OPTIONS] = str(program), "\n".join(options)
    _hook.install(options)
    main = ModuleType("__main__")
    main.__file__ = str(program)
    main.__spec__ = ModuleSpec(_CHILD, None, origin=str(program))
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    if not sys.flags.safe_path:
        sys.path[0] = str(program.parent)
    try:
        execute(program, main.__dict__)
    except DatamillError as error:
        # the sentence says what to do; a traceback of ours would hide it
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        # as Python itself would show it: the frames of the program, without the ones that started it
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(program):
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


def execute(program: Path, names: dict[str, Any]) -> None:
    """Runs the code of the program in a module with these names."""
    exec(compile(program.read_bytes(), str(program), "exec"), names)
