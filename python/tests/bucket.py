"""A bucket on the S3 server of the tests, looked at with requests that are signed here: not by the client under test."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import urllib.parse
import uuid
import xml.etree.ElementTree as tree

# what the servers of the tests let in: crates/testkit/src/s3.rs
ACCESS_KEY, SECRET_KEY = "datamill", "datamill-secret"
REGION = "us-east-1"


class Bucket:
    """A bucket, made anew."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"py-{uuid.uuid4().hex[:16]}"
        self._ask("PUT", "")

    def keys(self) -> list[str]:
        """The keys of all objects."""
        listed = tree.fromstring(self._ask("GET", "", {"list-type": "2"}))
        return sorted(key.text or "" for key in listed.iter() if key.tag.rpartition("}")[2] == "Key")

    def objects(self) -> dict[str, bytes]:
        """All objects by their keys."""
        return {key: self._ask("GET", key) for key in self.keys()}

    def _ask(self, method: str, key: str, query: dict[str, str] | None = None) -> bytes:
        address = urllib.parse.urlsplit(self.url)
        path = urllib.parse.quote(f"/{self.name}/{key}" if key else f"/{self.name}")
        words = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote)
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        empty = hashlib.sha256(b"").hexdigest()
        headers = {"host": address.netloc, "x-amz-content-sha256": empty, "x-amz-date": now}
        signed = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = "\n".join([method, path, words, lines, signed, empty])
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
        secret = f"AWS4{SECRET_KEY}".encode()
        for part in scope.split("/"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        signature = hmac.digest(secret, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        connection = http.client.HTTPConnection(address.netloc, timeout=60)
        try:
            connection.request(method, path + (f"?{words}" if words else ""), headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {content.decode(errors='replace')}"
        return content
