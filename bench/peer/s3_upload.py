"""Uploads the files of a folder to a bucket with boto3's managed upload, as a Python user would.

usage: s3_upload.py FOLDER BUCKET        prints the seconds that it took

The server is at $AWS_ENDPOINT_URL, the credentials are in the environment.
"""

import sys
import time
from pathlib import Path

import boto3

folder, bucket = Path(sys.argv[1]), sys.argv[2]
client = boto3.client("s3")
client.create_bucket(Bucket=bucket)
files = sorted(path for path in folder.rglob("*") if path.is_file())
start = time.monotonic()
for path in files:
    client.upload_file(str(path), bucket, str(path.relative_to(folder)))
print(f"{time.monotonic() - start:.2f}")
