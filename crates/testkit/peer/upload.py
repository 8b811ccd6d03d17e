"""Sends files with OpenMSIStream, each whole, one after another.

upload.py CONFIG TOPIC ROOT CHUNK_SIZE APPEND PATH...    paths relative to ROOT; APPEND goes into the rebuilt names
"""

import sys
from pathlib import Path

from openmsistream import UploadDataFile

config, topic, root, chunk_size, append, *paths = sys.argv[1:]
for path in paths:
    file = UploadDataFile(Path(root) / path, rootdir=Path(root), filename_append=append)
    file.upload_whole_file(Path(config), topic, chunk_size=int(chunk_size))
