"""A program of test_crashes.py: for one file it ends the process in the way that its first word says."""

import ctypes
import os
import sys
import time

import datamill

HOW = sys.argv.pop(1)


def size(file):
    if file.filename == "bad.dat":
        with open("calls", "a") as calls:
            calls.write(HOW + "\n")
        if HOW == "segfault":
            ctypes.string_at(0)
        if HOW == "exit":
            os._exit(9)
        while HOW == "hang":
            time.sleep(0.1)
    return {"path": str(file.relative_filepath), "size": file.size}


datamill.reproduce(size)
