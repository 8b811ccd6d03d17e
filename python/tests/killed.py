"""A program of test_killed.py: tells the digest of each file, and counts its calls in a file."""

import hashlib
import os
import time

import datamill

CALLS = os.open("calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def digest(file):
    os.write(CALLS, b".")
    time.sleep(0.005)
    return {"path": str(file.relative_filepath), "sha512": hashlib.sha512(file.bytestring).hexdigest()}


datamill.reproduce(digest)
