"""A server on this machine that stands in for the hub: it answers what huggingface_hub asks."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "a" * 40
Repositories = Mapping[str, Mapping[str, bytes | None]]  # name -> path -> content; None: it breaks off


@contextmanager
def serving(repositories: Repositories) -> Iterator[str]:
    """The address of a hub with these repositories."""

    class Handler(Hub):
        pass

    Handler.repositories = repositories
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of the hub: a revision's commit, its files, and each file."""

    repositories: Repositories

    def do_GET(self) -> None:
        kind, _, rest = self.path.partition("?")[0].strip("/").partition("/models/")
        if kind == "api":
            owner, name, what, *_ = rest.split("/")
            self.answer_about(f"{owner}/{name}", what)
        elif "/resolve/" in kind:
            name, _, file = kind.partition(f"/resolve/{COMMIT}/")
            body = self.repositories[name][file]
            if body is None:
                self.answer(403)
                return
            self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)
        else:
            self.answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer_about(self, name: str, what: str) -> None:
        if name == "owner/gated":
            self.answer(403, X_Error_Code="GatedRepo")
        elif name == "owner/down":
            self.answer(500)
        elif name == "owner/portal":
            self.answer(200, b"<html>Please log in to this network")
        elif name not in self.repositories:
            self.answer(401, X_Error_Code="RepoNotFound")  # as the hub answers: it may be private
        elif self.path.endswith("/revision/old"):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif what == "revision":
            self.answer(200, json.dumps({"id": name, "sha": COMMIT}).encode())
        else:
            tree = [
                {"type": "file", "path": path, "size": len(body or b""), "oid": hashlib.sha1(body or b"").hexdigest()}
                for path, body in self.repositories[name].items()
            ]
            self.answer(200, json.dumps(tree).encode())

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
