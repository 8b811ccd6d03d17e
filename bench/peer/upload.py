"""Uploads a folder with OpenMSIStream: upload.py CONFIG TOPIC FOLDER CHUNK_SIZE"""

import sys
from pathlib import Path

from openmsistream import DataFileUploadDirectory

config, topic, folder, chunk_size = sys.argv[1:]
directory = DataFileUploadDirectory(Path(folder), Path(config))
directory.upload_files_as_added(topic, chunk_size=int(chunk_size), upload_existing=True)
