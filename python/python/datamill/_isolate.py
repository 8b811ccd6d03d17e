"""Functions and classes in processes of their own: what a worker is started with."""

from __future__ import annotations

import base64
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

from . import _load
from ._errors import SetUpError

# one word of a command line takes no more
_MOST = 120_000


def keeper() -> list[str]:
    """What starts an interpreter that only looks after commands and workers: nothing of the user's is loaded there."""
    return [sys.executable, "-I", "-S", "-c", _KEEP, _package()]


_KEEP = "import sys; sys.path.append(sys.argv[1]); from datamill._engine import keep; sys.exit(keep())"


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def worker(code: Any, serving: dict[str, Any], warm: bool) -> tuple[list[str], list[str]]:
    """What starts a worker, and what starts the process that looks after it.

    Parameters
    ----------
    code : callable, or tuple
        The function, or a class with the arguments and keywords that an object of it is made with.
    serving : dict
        Arguments of `_engine.serve`.
    warm : bool
        Whether the process that looks after the worker loads the code and forks.

    Raises
    ------
    SetUpError
        Another process cannot load the code.
    """
    whole = _packed(code, serving)
    words = [sys.executable, "-P", "-c", _WORK, _package(), whole]
    if not warm:
        return words, keeper()
    if not hasattr(os, "fork"):
        raise SetUpError("this system cannot fork a process: leave `--warm` out")
    return words, [sys.executable, "-P", "-c", _WARM, _package(), whole]


# the package may be installed where only this interpreter's own path leads
_WORK = "import sys; sys.path.append(sys.argv[1]); from datamill._worker import work; work(sys.argv[2])"
_WARM = "import sys; sys.path.append(sys.argv[1]); from datamill._worker import keep_warm; keep_warm(sys.argv[2])"


def _packed(code: Any, serving: dict[str, Any]) -> str:
    # not with the package, which most programs import without it
    from multiprocessing import spawn

    process = spawn.get_preparation_data("datamill-worker")
    # the key of another library's connections, and the folder, which a worker has anyway
    for name in ("authkey", "dir", "orig_dir"):
        process.pop(name, None)
    try:
        packed = pickle.dumps((code, serving))
    except Exception as error:
        raise SetUpError(
            f"`--isolate` loads the code in other processes, and they cannot find it ({error}): let it stand at the top level of "
            "a file, and let what it is made with be what `pickle` takes"
        ) from None
    modules = {module for module in _modules(code) if module is not None}
    if "__main__" not in modules:
        process = {name: value for name, value in process.items() if not name.startswith("init_main")}
    elif not any(name.startswith("init_main") for name in process):
        raise SetUpError(
            "`--isolate` loads the code in other processes, and they have nothing that was typed at a prompt or in a notebook: "
            "put it into a file, and import that"
        )
    loaded = {name: path for name, path in _load.loaded.items() if name in sys.modules}
    whole = base64.b64encode(pickle.dumps({"process": process, "loaded": loaded, "packed": packed})).decode()
    if len(whole) > _MOST:
        raise SetUpError("`--isolate` hands what the code is made with to other processes, and it is too large: 90 kB are the most")
    return whole


def _modules(code: Any) -> list[str | None]:
    """Where the parts of the code are from."""
    if isinstance(code, tuple):
        return [module for part in code for module in _modules(part)]
    parts: list[Callable[..., Any]] = [code]
    if hasattr(code, "func"):
        parts += [code.func, *code.args]
    if hasattr(code, "__self__"):
        parts.append(type(code.__self__))
    return [getattr(part, "__module__", None) for part in parts]
