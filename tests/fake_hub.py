"""The Hugging Face Hub, as far as huggingface_hub asks for a file of a model and for a commit."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
AMISS = {  # how the Hub answers: status, and code of the error
    "user/none": (401, "RepoNotFound"),
    "user/gated": (403, "GatedRepo"),
    "user/empty": (404, "EntryNotFound"),
}


class Hub(BaseHTTPRequestHandler):
    """Answers of the Hub; what it has, and which files were asked for."""

    models: dict[str, dict[str, bytes]]
    private: set[str]
    asked: list[str]

    def answer(self, status=200, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", len(body))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, content):
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "whoami-v2"]:
            return self.tell({"name": "user", "type": "user"})
        if path[:2] == ["api", "models"]:
            model = "/".join(path[2:4])
            if model not in self.models or len(path) > 4:
                return self.answer(404, X_Error_Code="RepoNotFound")
            names = [{"rfilename": name} for name in self.models[model]]
            return self.tell({"id": model, "private": model in self.private, "siblings": names})
        if path[2:3] != ["resolve"]:
            return self.answer(404)
        model, revision, name = "/".join(path[:2]), path[3], "/".join(path[4:])
        self.asked.append(f"{model}@{revision}/{name}")
        if model in AMISS:
            status, code = AMISS[model]
            return self.answer(status, X_Error_Code=code, X_Repo_Commit=COMMIT)
        if revision not in ("main", COMMIT):
            return self.answer(404, X_Error_Code="RevisionNotFound")
        body = self.models[model][name]
        size = 10**10 if model == "user/huge" else len(body)
        self.answer(200, body, ETag='"1"', X_Repo_Commit=COMMIT, Content_Length=size)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0].strip("/").split("/")
        if path == ["api", "repos", "create"]:
            wanted = json.loads(body)
            model = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            self.models[model] = {}
            hidden = wanted.get("private") or wanted.get("visibility") == "private"
            self.private |= {model} if hidden else set()
            return self.tell({"url": f"{constants.ENDPOINT}/{model}", "id": model})
        if path == ["api", "validate-yaml"]:
            return self.tell({"errors": [], "warnings": []})
        model = "/".join(path[2:4])
        if model == "other/faces":
            return self.answer(403)
        if path[4] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            return self.tell({"files": [{"path": name, **mode} for name in names]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.models[model][line["value"]["path"]] = content
        at = f"{constants.ENDPOINT}/{model}"
        self.tell({"commitOid": COMMIT, "commitUrl": f"{at}/commit/{COMMIT}", "success": True})


@contextmanager
def fake_hub(patch, folder: Path) -> Iterator[type[Hub]]:
    """A Hub on this machine, with a login and an empty cache in `folder`."""
    Hub.models, Hub.private, Hub.asked = {}, set(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    address = f"http://127.0.0.1:{server.server_port}"
    patch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    patch.setenv("HF_TOKEN", "hf_secret")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Hub
    finally:
        huggingface_hub.close_session()
        server.shutdown()
        server.server_close()
