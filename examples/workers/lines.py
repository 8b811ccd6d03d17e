"""Counts the lines of each file: a worker in Python, without a package.

datamill reproduce --consumer_topic_name files --producer_topic_name lines --worker -- python3 lines.py
"""

import json
import os
import struct

source = open(int(os.environ["DATAMILL_INPUT"]), "rb")
target = open(int(os.environ["DATAMILL_OUTPUT"]), "wb")


def say(header, payload=b""):
    text = json.dumps(header).encode()
    target.write(struct.pack(">I", len(text)) + text + payload)
    target.flush()


def work(file, content):
    return {"file": file["filename"], "lines": content.count(b"\n")}


say({"type": "hello", "version": 1, "program": "lines.py"})
while length := source.read(4):
    file = json.loads(source.read(*struct.unpack(">I", length)))
    try:
        if "path" in file:
            with open(file["path"], "rb") as there:
                content = there.read()
        else:
            content = source.read(file["bytes"])
        result = json.dumps(work(file, content)).encode()
        say({"type": "result", "id": file["id"], "bytes": len(result)}, result)
    except Exception as error:
        say({"type": "failed", "id": file["id"], "reason": repr(error)})
