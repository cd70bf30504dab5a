"""Publishing: refusals come from a real HTTP server (or none), and what arrives is a dataset."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from prisbench.datasets.cards.publish import push
from prisbench.datasets.load import open_dataset
from prisbench.errors import DataError, UsageError, WriteError
from prisbench.runtime.files import sha256_file

TOKEN = "hf_fictitious"
COMPLETE = "is complete: nothing is lost, push it again when that is mended"


@dataclass
class Hub:
    """A tiny Hub.  ``refuse``: the part of an address at which it answers with ``status``."""

    address: str = ""
    refuse: str = ""
    status: int = 200
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    commits: list[dict[str, Any]] = field(default_factory=list)
    created: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if self.refuse and self.refuse in path:
            return self.status, {"error": "told to"}
        if path.startswith("/api/repos/create"):
            self.created = json.loads(body)
            return 200, {"url": f"{self.address}/datasets/{self.created.get('organization') or 'me'}/tiny"}
        if "/tree/" in path:
            return 200, [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in self.files]
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return 200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
        if "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            for line in lines:
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.files[line["value"]["path"]]
            self.commits.append(lines[0]["value"])
            return 200, {"commitUrl": f"{self.address}/datasets/me/tiny/commit/{'0' * 40}", "commitOid": "0" * 40}
        return 200, {"errors": [], "warnings": []}  # validate-yaml


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.asked.append(self.path)
            if "/datasets/" in self.path or "/repos/" in self.path:
                hub.tokens.add(self.headers.get("Authorization"))
            status, value = hub.answer(self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "tiny-v1"))


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(p.relative_to(folder)): (sha256_file(p), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def test_what_arrives_is_the_dataset_with_its_card_in_one_commit(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("private")
    (folder / "croissant.json").write_text("{}")
    before = state(folder)
    url = push(folder, "them/tiny", private=True, token=TOKEN)
    assert url == f"{hub.address}/datasets/them/tiny"
    assert state(folder) == before
    assert hub.created == {"name": "tiny", "organization": "them", "visibility": "private", "type": "dataset"}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert set(hub.files) == set(before) - {"notes.txt"}
    for name, data in hub.files.items():
        (tmp_path / "arrived" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "arrived" / name).write_bytes(data)
    arrived = open_dataset(tmp_path / "arrived", verify=True)
    assert [commit["summary"] for commit in hub.commits] == [f"tiny-v1, digest {arrived.digest[:16]}"]


def test_shards_of_an_older_version_go_and_other_files_there_stay(hub: Hub, folder: Path) -> None:
    old = ["queries/test-00007.parquet", "pictures/a.parquet", "queries/notes.md", ".gitattributes"]
    hub.files |= dict.fromkeys(old, b"old")
    push(folder, "tiny", token=TOKEN)
    assert set(hub.files) == {*state(folder), *old[1:]} and len(hub.commits) == 1
    assert hub.created == {"name": "tiny", "organization": None, "type": "dataset"}, "visibility is the owner's default"


REFUSALS = {
    401: "it does not know the token; make one that may write",
    403: "the token may not write there; take one that may, or another name than them/tiny",
    404: "no such owner, or the token may not see it; look at the spelling of them/tiny",
    500: "try again later",
    418: "the Hub says 418 (told to); ",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_says_what_to_do_and_that_the_folder_is_complete(hub: Hub, folder: Path, status: int) -> None:
    hub.refuse, hub.status, before = "/api/", status, state(folder)
    with pytest.raises(WriteError) as caught:
        push(folder, "them/tiny", token=TOKEN)
    line = str(caught.value)
    assert line.startswith(f"cannot push to them/tiny: the Hub says {status}") and REFUSALS[status] in line
    assert line.endswith(f"{folder} {COMPLETE}") and "\n" not in line and TOKEN not in line
    assert state(folder) == before and not hub.commits


def test_a_refusal_of_the_commit_is_told_like_one_of_the_name(hub: Hub, folder: Path) -> None:
    hub.refuse, hub.status = "/commit/", 403
    with pytest.raises(WriteError, match=r"the Hub says 403 .*the token may not write there"):
        push(folder, "them/tiny", token=TOKEN)
    assert hub.files == {}


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "https://huggingface.co/datasets/a/b", "a b", "../x", "a--b", "datasets/", "x\n", "ü/x"]
)
def test_a_name_that_cannot_be_is_refused_before_anybody_is_asked(hub: Hub, folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"is no name for a dataset on the Hub: .*like my-name/tiny-v1.*is complete"):
        push(folder, name, token=TOKEN)
    assert hub.asked == []


def test_without_a_token_nobody_is_asked(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"no token for the Hub: make one .*`hf auth login` or set HF_TOKEN.*complete"):
        push(folder, "them/tiny")
    assert hub.asked == []


def test_a_mangled_token_is_refused_and_not_shown(hub: Hub, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"odd characters") as caught:
        push(folder, "them/tiny", token="hf_secret and more")
    assert "hf_secret" not in str(caught.value) and hub.asked == []


def test_offline_mode_is_named(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WriteError, match=r"them/tiny: HF_HUB_OFFLINE is set; unset it; .* is complete"):
        push(folder, "them/tiny", token=TOKEN)
    assert hub.asked == []


def test_without_a_network_the_environment_s_hub_is_named_in_a_fresh_process(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        environment |= {"HF_ENDPOINT": address, "HF_TOKEN": TOKEN}
        code = (
            "from prisbench.datasets.cards.publish import push\nfrom prisbench.errors import WriteError\n"
            f"try:\n    push({str(folder)!r}, 'them/tiny')\nexcept WriteError as error:\n    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )
    line = done.stdout.strip()
    assert line.startswith(f"cannot push to them/tiny: {address} cannot be reached ("), done.stderr
    assert line.endswith(f"see to the network, or to HF_ENDPOINT if it is set; {folder} {COMPLETE}")


@pytest.mark.parametrize("damage", ["shard gone", "shard changed", "card gone", "card bare", "no manifest"])
def test_what_is_not_a_whole_dataset_is_not_sent(hub: Hub, folder: Path, damage: str) -> None:
    shard = folder / "queries" / "test-00000.parquet"
    if damage == "shard gone":
        shard.unlink()
    elif damage == "shard changed":
        shard.write_bytes(shard.read_bytes() + b"x")
    elif damage == "card gone":
        (folder / "README.md").unlink()
    elif damage == "card bare":
        (folder / "README.md").write_text("# Tiny\n\nconfigs:\n")
    else:
        (folder / "dataset.json").unlink()
    said = {
        "shard gone": "test-00000.parquet is missing",
        "shard changed": "test-00000.parquet has changed",
        "card gone": "README.md does not exist",
        "card bare": "README.md has lost its front matter",
        "no manifest": "is not a dataset: no dataset.json",
    }
    with pytest.raises(DataError, match=said[damage]):
        push(folder, "them/tiny", token=TOKEN)
    assert hub.asked == []
