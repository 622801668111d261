"""A small server that speaks the calls of the Hub which uploading and downloading need, for one user.

It keeps repositories in memory: models and datasets, with commits, branches, private repositories, and large files by
the LFS protocol. `broken` names files whose download stops half-way.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


TOKEN = "hf_of_the_owner"
LARGE = (".safetensors", ".parquet", ".bin")  # go by LFS


@dataclass
class Repository:
    url: str
    private: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    messages: list[str] = field(default_factory=list)

    def files(self, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.branches.get(revision, revision))


class HubServer(ThreadingHTTPServer):
    """Use as a context manager. `url` is what `HF_ENDPOINT` is set to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.broken: set[str] = set()

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()


def described(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path, body = urlsplit(self.path).path, self.body()
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/(?:(datasets)/)?(.+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body))
        if found := re.fullmatch(r"/api/(models|datasets)/(.+)/(preupload|commit|branch|paths-info)/(.+)", path):
            kind, name, action, revision = found.groups()
            if (repository := self.repository(kind, name, write=action != "paths-info")) is not None:
                getattr(self, action.replace("-", "_"))(repository, unquote(revision), body)
            return None
        return self.refuse(404, "EntryNotFound", f"no call {path}")

    def do_PUT(self):
        self.server.objects[self.path.rsplit("/", 1)[1]] = self.body()
        self.reply({})

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            if not self.is_owner:
                return self.refuse(401, None, "Invalid user token.")
            return self.reply({"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}, "orgs": []})
        if found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = found.groups()
            return self.resolve(kind or "models", name, revision, file)
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path):
            kind, name, action, revision, folder = found.groups()
            return self.information(kind, name, action, revision or "main", folder)
        return self.refuse(404, "EntryNotFound", f"no page {path}")

    # --- Calls -------------------------------------------------------------------------------------------------------

    def create(self, wanted: dict[str, Any]):
        if not self.is_owner:
            return self.refuse(401, None, "Invalid user token.")
        kind = f"{wanted.get('type') or 'model'}s"
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = f"{self.server.url}/{'' if kind == 'models' else f'{kind}/'}{name}"
        if f"{kind}/{name}" in self.server.repositories:
            return self.reply({"url": url, "error": "You already created this repo"}, 409)
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.server.repositories[f"{kind}/{name}"] = Repository(url, bool(private))
        return self.reply({"url": url})

    def preupload(self, repository: Repository, revision: str, body: bytes):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.reply({"files": files})

    def batch(self, wanted: dict[str, Any]):
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/objects/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self.reply({"transfer": "basic", "objects": objects})

    def paths_info(self, repository: Repository, revision: str, body: bytes):
        wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        files = repository.files(revision) or {}
        self.reply([described(path, files[path]) for path in wanted if path in files])

    def branch(self, repository: Repository, revision: str, body: bytes):
        repository.branches[revision] = repository.branches["main"]
        self.reply({})

    def commit(self, repository: Repository, revision: str, body: bytes):
        if revision not in repository.branches:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = dict(repository.files(revision))
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif line["key"] == "header":
                repository.messages.append(value["summary"])
        sha = hashlib.sha1(body + str(len(repository.commits)).encode()).hexdigest()
        repository.commits[sha], repository.branches[revision] = files, sha
        return self.reply({"commitUrl": f"{repository.url}/commit/{sha}", "commitOid": sha, "success": True})

    def resolve(self, kind: str, name: str, revision: str, file: str):
        if (repository := self.repository(kind, name)) is None:
            return
        files = repository.files(revision)
        if files is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        sha = repository.branches.get(revision, revision)
        if file not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
        content = files[file]
        etag = hashlib.sha256(content).hexdigest()
        self.send_response(200)
        for header, value in {
            "X-Repo-Commit": sha,
            "ETag": f'"{etag}"',
            "X-Linked-Size": len(content),
            "Content-Length": len(content),
            "Content-Type": "application/octet-stream",
        }.items():
            self.send_header(header, str(value))
        self.end_headers()
        if self.command == "GET" and file in self.server.broken:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(content)

    def information(self, kind: str, name: str, action: str | None, revision: str, folder: str | None):
        if (repository := self.repository(kind, name)) is None:
            return
        files = repository.files(revision)
        if files is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if action == "tree":
            return self.tree(files, (folder or "").strip("/"))
        card = files.get("README.md", b"").decode()
        tag = re.search(r"^pipeline_tag: (.+)$", card, re.MULTILINE)
        return self.reply(
            {
                "id": name,
                "sha": repository.branches.get(revision, revision),
                "private": repository.private,
                "library_name": "transformers",
                "pipeline_tag": tag and tag[1],
                "tags": [],
                "siblings": [{"rfilename": path} for path in files],
            }
        )

    def tree(self, files: dict[str, bytes], folder: str):
        recursive = "recursive=true" in self.path.lower()
        entries = {}
        for path, content in files.items():
            parts = path.split("/")
            above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
            entries |= {name: {"type": "directory", "path": name, "size": 0, "oid": ""} for name in above}
            entries[path] = described(path, content)
        inside = [
            entry
            for path, entry in entries.items()
            if (not folder or path.startswith(f"{folder}/"))
            and (recursive or "/" not in path[len(folder) :].strip("/"))
        ]
        if folder and not inside:
            return self.refuse(404, "EntryNotFound", f"{folder} does not exist")
        return self.reply(inside)

    # --- Requests and replies ----------------------------------------------------------------------------------------

    @property
    def is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, kind: str, name: str, write: bool = False) -> Repository | None:
        """A repository; None, and a refusal, if there is none that the user may see."""
        repository = self.server.repositories.get(f"{kind}/{name}")
        if repository is None or ((write or repository.private) and not self.is_owner):
            self.refuse(401 if not self.is_owner else 404, "RepoNotFound", "Repository not found")
            return None
        return repository

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, content: Any, status: int = 200, headers: dict[str, str] | None = None):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(body),
            **(headers or {}),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None):
        codes = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply({"error": message}, status, codes | (headers or {}))

    def log_message(self, *args):
        pass
