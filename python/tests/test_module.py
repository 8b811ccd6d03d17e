"""The module itself: what it is, and what it brings into a process."""

import importlib.metadata
import subprocess

import datamill
from datamill import _engine


def test_the_version_is_that_of_the_distribution():
    assert datamill.__version__ == importlib.metadata.version("datamill")


def test_the_engine_exports_nothing_but_its_module():
    nm = subprocess.run(["nm", "-D", "--defined-only", _engine.__file__], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in nm.stdout.splitlines()]
    assert names and all(name.startswith("PyInit_") for name in names), names
