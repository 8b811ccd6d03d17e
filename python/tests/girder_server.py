"""A Girder server that keeps what it gets in memory: the part of the API that uploads use."""

import http.server
import json
import threading
import urllib.parse


class GirderServer:
    """Runs in a thread while it is entered. `tree()` is what it has."""

    def __init__(self):
        self.things = {}
        self.contents = {}
        self.uploads = {}
        self.lock = threading.Lock()

    def __enter__(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                url = urllib.parse.urlparse(self.path)
                asked = dict(urllib.parse.parse_qsl(url.query))
                with server.lock:
                    said = server.obey(self.command, url.path.removeprefix("/api/v1/").split("/"), asked, body)
                said = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = answer

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/api/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def make(self, kind, parent, name):
        """The thing of this name in its parent."""
        for thing in self.things.values():
            if (thing["_modelType"], thing["parentId"], thing["name"]) == (kind, parent, name):
                return thing
        id = f"{len(self.things) + 1:024x}"
        self.things[id] = {"_id": id, "_modelType": kind, "parentId": parent, "name": name, "meta": {}}
        return self.things[id]

    def obey(self, verb, path, asked, body):
        """Does what a request asks for."""
        kind = path[0]
        if path == ["api_key", "token"]:
            return {"authToken": {"token": "t", "scope": []}, "user": {"_id": "u", "login": "me"}}
        if path == ["system", "version"]:
            return {"apiVersion": "5.0.0", "release": "5.0.0", "version": "5.0.0"}
        if path[-1] == "metadata":
            self.things[path[1]]["meta"].update(json.loads(body))
            return self.things[path[1]]
        if verb == "GET" and path[-1] == "files":
            return [thing for thing in self.things.values() if (thing["_modelType"], thing["parentId"]) == ("file", path[1])]
        if verb == "GET":
            parent = asked.get("folderId", asked.get("parentId"))
            wanted = (kind, parent, asked.get("name"))
            return [
                thing
                for thing in self.things.values()
                if thing["_modelType"] == kind
                and wanted[1] in (None, thing["parentId"])
                and wanted[2] in (None, thing["name"])
                and not int(asked.get("offset", 0))
            ]
        if kind == "file" and path[-1] == "contents":
            upload = self.uploads["u" + path[1]] = {"_id": "u" + path[1], "_modelType": "upload", "file": path[1]}
            return upload
        if kind == "file" and path[-1] == "chunk":
            return self.keep(self.uploads[asked["uploadId"]]["file"], body)
        if kind == "file":
            item = asked["parentId"]
            if asked["parentType"] == "folder":
                item = self.make("item", item, asked["name"])["_id"]
            return self.keep(self.make("file", item, asked["name"])["_id"], body)
        thing = self.make(kind, asked.get("parentId"), asked["name"])
        thing["meta"].update(json.loads(asked.get("metadata", "{}")))
        return thing

    def keep(self, file, content):
        """Keeps the content of a file."""
        self.contents[file] = content
        self.things[file]["size"] = len(content)
        return {**self.things[file], "itemId": self.things[file]["parentId"]}

    def tree(self):
        """Content, topic and checksum of each file, by its path from the collection on."""

        def path(thing):
            parent = self.things.get(thing["parentId"])
            return thing["name"] if parent is None else f"{path(parent)}/{thing['name']}"

        with self.lock:
            items = [thing for thing in self.things.values() if thing["_modelType"] == "item"]
            files = {thing["parentId"]: id for id, thing in self.things.items() if thing["_modelType"] == "file"}
            return {
                path(item): (
                    self.contents[files[item["_id"]]],
                    {name: item["meta"].get(name) for name in ("KafkaTopic", "checksum", "x", "own")},
                )
                for item in items
                if item["_id"] in files
            }
