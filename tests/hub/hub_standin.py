"""A stand-in for the Hugging Face Hub on loopback: standard library only, in a thread, with what the tests need.

It speaks the part of the Hub's HTTP API that the real huggingface_hub client uses to create repositories, push commits
and download files, by LFS and by Xet; it can misbehave on demand and keeps a log of requests.

    with HubStandIn({"hf_write": User("alice")}) as hub:  # free port, temporary storage
        env = hub.env(token="hf_write")                   # for a client, before it imports huggingface_hub
        hub.fail(path="/commit/", status=503, times=2)    # see Fault for every kind of misbehaviour
        assert hub.count("POST", "/commit/") == 3

huggingface_hub 2 uploads by Xet whenever hf_xet is installed and HF_HUB_DISABLE_XET is not set; `env` picks one. Xet
clients must not compress (`env` sees to it). Not there: git, discussions, gated repositories, tags, branches but main,
multipart uploads, deduplication between files. Commit ids are SHA-1s but not git's; blob ids are git's. Nothing of it
was compared with the real Hub: it follows what the client's source expects.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

REPO_TYPES = ("model", "dataset", "space")
LFS_PATTERNS = (  # the part of the Hub's default .gitattributes that matters here
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.gz *.h5 *.joblib *.msgpack *.npy *.npz *.onnx *.parquet *.pb *.pickle *.pkl "
    "*.pt *.pth *.safetensors *.tar *.tflite *.zip *.zst *tfevents*"
).split()
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
CHUNK = 64 * 1024


# ---------------------------------------------------------------------------------------------- faults and the log


@dataclass
class Fault:
    """One planned misbehaviour: which requests it hits, how often, and what happens to them.

    kind            what happens to a matching request
    --------------  ---------------------------------------------------------------------------------------------
    status          answer ``status`` with ``headers`` and ``body``; the request is not carried out
    drop            close the connection before reading the request body; nothing is carried out
    drop_upload     read ``after`` bytes of the request body, then close; nothing is carried out
    drop_response   carry the request out, then close without answering (the "lost response")
    drop_download   announce the full length, send ``after`` bytes of the body, then close
    truncate        serve only the first ``after`` bytes and announce just those (a shorter file, clean HTTP)
    corrupt         flip the byte at offset ``after`` of what is sent (the length is right, the content is not)
    delay           wait ``seconds``, then carry the request out normally
    stall           send ``after`` bytes of the body, then send nothing for ``seconds``, then close
    """

    kind: str = "status"
    method: str = ".*"  # regular expression, must match the whole method
    path: str = ".*"  # regular expression, searched in the raw path (query string excluded)
    times: int = 1  # how many requests it hits; -1: every one
    skip: int = 0  # let this many matching requests pass first
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None  # str, or something to send as JSON
    after: int = 0
    seconds: float = 0.0
    rst: bool = False  # close with a TCP reset instead of a FIN

    KINDS: ClassVar = "status drop drop_upload drop_response drop_download truncate corrupt delay stall"

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS.split():
            raise ValueError(f"unknown fault kind {self.kind!r}; one of: {self.KINDS}")

    def take(self, method: str, path: str) -> bool:
        """Whether this fault hits that request; counts the request as hit (or as skipped)."""
        if self.times == 0 or not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= self.times > 0
        return True


@dataclass
class Request:
    """One line of the request log."""

    n: int
    method: str
    path: str  # raw path, without the query string
    query: str
    status: int = 0  # 0: the connection was closed without an answer
    bytes_in: int = 0  # body bytes received
    bytes_out: int = 0  # body bytes sent
    user: str | None = None  # who the token belongs to; the token itself is never kept
    authorization: bool = False  # whether an Authorization header was sent at all
    range: str | None = None
    fault: str | None = None
    seconds: float = 0.0


class DropConnectionError(Exception):
    """Raised inside a handler to close the connection without (further) answer."""


class HubError(Exception):
    """An HTTP error answer, with the Hub's error headers."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {k.replace("_", "-"): v for k, v in headers.items()} | {"X-Error-Message": message}
        if code:
            self.headers["X-Error-Code"] = code


# -------------------------------------------------------------------------------------------------------- storage


@dataclass
class File:
    size: int
    sha256: str
    oid: str  # git blob id: of the content, or of the LFS pointer
    lfs: bool
    xet: str | None = None  # Xet hash of the content, if it came in through Xet

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def pointer_size(self) -> int:
        return len(lfs_pointer(self.sha256, self.size))


@dataclass
class Commit:
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    created: str
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def resolve(self, revision: str) -> str:
        """Commit id of a branch, or of a full or abbreviated commit id."""
        if (name := revision.removeprefix("refs/heads/")) in self.branches:
            return self.branches[name]
        if re.fullmatch("[0-9a-f]{7,40}", revision):
            found = [sha for sha in self.commits if sha.startswith(revision)]
            if len(found) == 1:
                return found[0]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    @property
    def url(self) -> str:
        return f"/{self.id}" if self.type == "model" else f"/{self.type}s/{self.id}"


class Store:
    """Repos in memory, and a directory: ``blobs/<sha256>``, ``xorbs/<hash>``, ``xet/<hash>.json``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        for name in ("blobs", "xorbs", "xet"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def add_bytes(self, content: bytes) -> str:
        with self.new_blob() as writer:
            writer.write(content)
        return writer.sha256

    @contextmanager
    def new_blob(self, expect: str | None = None) -> Iterator[BlobWriter]:
        """A writer; on a clean exit the blob is complete and in place, otherwise no trace is left."""
        handle, name = tempfile.mkstemp(dir=self.root, prefix="incoming-")
        with os.fdopen(handle, "wb") as out:
            writer = BlobWriter(out)
            try:
                yield writer
                if expect not in (None, writer.sha256):
                    raise HubError(400, f"content has sha256 {writer.sha256}, expected {expect}")
            except BaseException:
                os.unlink(name)
                raise
        os.replace(name, self.blob(writer.sha256))

    def commit(self, repo: Repo, branch: str, title: str, message: str, author: str, files: dict[str, File]) -> str:
        """Record a new commit on ``branch`` and return its id."""
        parent = repo.branches.get(branch)
        commit = Commit(parent, title, message, author, now(), files)
        sha = hashlib.sha1(json.dumps([asdict(commit), secrets.token_hex()], sort_keys=True).encode()).hexdigest()
        repo.commits[sha] = commit
        repo.branches[branch] = sha
        return sha


class BlobWriter:
    def __init__(self, out: BinaryIO) -> None:
        self.out, self.hash, self.size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.out.write(data)
        self.hash.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self.hash.hexdigest()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000Z"


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def front_matter(text: str) -> dict[str, Any]:
    """The YAML block at the top of a README; empty if there is none. Raises ValueError if it is not a mapping."""
    found = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    if not found:
        return {}
    try:
        import yaml  # huggingface_hub depends on it, so it is there wherever a client is
    except ImportError:
        return {}
    try:
        data = yaml.safe_load(found.group(1))
    except yaml.YAMLError as error:
        raise ValueError(f"invalid YAML: {error}") from error
    if data is not None and not isinstance(data, dict):
        raise ValueError("the metadata block must be a mapping")
    return data or {}


# ------------------------------------------------------------------------------------------- Xet formats, as needed

XET_HASH = "(?P<hash>[0-9a-f]{64})"


def xet_hash(raw: bytes) -> str:
    """Xet writes a hash as four 64-bit words, each in hexadecimal."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def xorb_chunks(data: bytes) -> list[tuple[int, int, int]]:
    """Per chunk of a xorb: offset of its 8-byte header, offset of its end, compression scheme (0: none)."""
    chunks, position = [], 0
    while position < len(data) and data[position : position + 7] != b"XETBLOB":  # where the footer starts, if any
        end = position + 8 + int.from_bytes(data[position + 1 : position + 4], "little")
        chunks.append((position, end, data[position + 4]))
        position = end
    return chunks


def shard_files(data: bytes) -> list[dict[str, Any]]:
    """The files that a shard describes: Xet hash, SHA-256 and segments (xorb hash, size, first chunk, end chunk)."""
    files: list[dict[str, Any]] = []
    position = 48  # after the shard's header; every record is 48 bytes long
    while True:
        name, flags, count = struct.unpack_from("<32sII", data, position)
        position += 48
        if name == b"\xff" * 32:  # end of the section
            return files
        segments = []
        for _ in range(count):
            xorb, _flags, size, first, end = struct.unpack_from("<32s4I", data, position)
            segments.append([xet_hash(xorb), size, first, end])
            position += 48
        if flags >> 31 & 1:  # verification records, one per segment: not checked here
            position += 48 * count
        sha256 = None
        if flags >> 30 & 1:
            sha256 = xet_hash(data[position : position + 32])
            position += 48
        files.append({"hash": xet_hash(name), "sha256": sha256, "segments": segments})


# ------------------------------------------------------------------------------------------------------ the server


@dataclass(frozen=True)
class User:
    name: str
    role: str = "write"  # of the token: "write" or "read"


@dataclass
class Answer:
    status: int = 200
    json: Any = None
    body: bytes | Path = b""
    headers: dict[str, str] = field(default_factory=dict)


class HubStandIn:
    """The server. ``with HubStandIn() as hub`` starts it; ``hub.endpoint`` is what HF_ENDPOINT must be.

    Tokens map to users: ``hf_read`` is a read-only one of alice's, ``hf_other`` is bob's. A file is LFS if a default .gitattributes pattern matches or if the
    sample the client sends contains a NUL byte. LFS downloads are redirected to another origin (``localhost`` instead of
    ``127.0.0.1``), as the real Hub redirects to its CDN; like there, an Authorization header is an error.
    """

    def __init__(self, tokens: dict[str, User]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hub-standin-"))
        self.store = Store(self.root)
        self.tokens = tokens
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.variables: dict[str, dict[str, str]] = {}  # of Spaces
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(16)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        port = self._server.server_address[1]
        self.endpoint, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    # -- life cycle and controls

    def start(self) -> HubStandIn:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> HubStandIn:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def env(self, token: str | None = "hf_write", home: str | Path | None = None, xet: bool = False) -> dict[str, str]:
        """Environment for a client. Nearly all of it is read when huggingface_hub is imported: set it before."""
        env = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        if xet:
            env |= {"HF_XET_XORB_COMPRESSION_POLICY": "none", "HF_XET_CLIENT_RETRY_BASE_DELAY": "200ms"}
        if token is not None:
            env["HF_TOKEN"] = token
        if home is not None:
            env["HF_HOME"] = str(home)
        return env

    def fail(self, kind: str = "status", **options: Any) -> Fault:
        """Plan a misbehaviour, e.g. ``hub.fail(path="/commit/", status=429, headers={"Retry-After": "1"})``."""
        fault = Fault(kind=kind, **options)
        with self._lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget faults and log; repos stay."""
        with self._lock:
            self.faults.clear()
            self.log.clear()

    def put(self, id: str, files: dict[str, bytes], type: str = "model", private: bool = False) -> str:
        """A repo with these files, or a commit of them to it, as if somebody had pushed them; returns the commit."""
        with self.store.lock:
            repo = self.store.repos.setdefault((type, id), Repo(type, id, private, now()))
            tree = dict(repo.commits[repo.branches["main"]].files) if repo.branches else {}
            for path, content in files.items():
                sha256, lfs = self.store.add_bytes(content), self.is_lfs(path, len(content), content[:512])
                oid = git_oid(lfs_pointer(sha256, len(content)) if lfs else content)
                tree[path] = File(len(content), sha256, oid, lfs)
            return self.store.commit(repo, "main", "put", "", id.split("/")[0], tree)

    def requests(self, method: str = ".*", path: str = "") -> list[Request]:
        with self._lock:
            return [r for r in self.log if re.fullmatch(method, r.method) and re.search(path, r.path)]

    def count(self, method: str = ".*", path: str = "") -> int:
        return len(self.requests(method, path))

    # -- who may do what

    def authenticate(self, header: str | None) -> User | None:
        if not header:
            return None
        user = self.tokens.get(header.removeprefix("Bearer ").strip())
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def repo(self, call: Call, *, write: bool = False) -> Repo:
        """The repo that a request is about, if the user may see it (and, with ``write``, change it)."""
        type_, id_ = call.params["type"], call.params["id"]
        repo = self.store.repos.get((type_, id_))
        owner = id_.split("/")[0]
        member = call.user is not None and owner == call.user.name
        if repo is None or (repo.private and not member):
            if call.user is None:  # the Hub does not say whether a repo is missing or private
                raise HubError(401, "Invalid username or password.", "RepoNotFound")
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write:
            self.may_write(call, owner)
        return repo

    def may_write(self, call: Call, owner: str) -> None:
        if call.user is None:
            raise HubError(401, "Invalid username or password.")
        if call.user.role != "write":
            raise HubError(403, "Forbidden: you must use a write token to do that.")
        if owner != call.user.name:
            raise HubError(403, f"Forbidden: you don't have the rights to write in the namespace {owner!r}.")

    def sign(self, path: str) -> str:
        """A signed URL on the storage origin: it needs no token, and refuses one."""
        return f"{self.cdn}{path}?sig={self._signature(path)}"

    def _signature(self, path: str) -> str:
        return hmac.new(self._secret, path.encode(), "sha256").hexdigest()[:32]

    def check_signature(self, call: Call) -> None:
        if call.headers.get("Authorization"):
            raise HubError(400, "Only one auth mechanism allowed: signed URL and Authorization header given")
        if call.query.get("sig", [""])[0] != self._signature(call.path):
            raise HubError(403, "Request signature does not match")

    # -- answers that several routes share

    def entry(self, path: str, file: File) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        if file.xet:
            entry["xetHash"] = file.xet
        return entry

    def info(self, repo: Repo, sha: str, blobs: bool) -> dict[str, Any]:
        commit, siblings, card = repo.commits[sha], [], {}
        for path, file in sorted(commit.files.items()):
            sibling: dict[str, Any] = {"rfilename": path}
            if blobs:
                sibling |= {"size": file.size, "blobId": file.oid}
                if file.lfs:
                    sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
            siblings.append(sibling)
        if readme := commit.files.get("README.md"):
            with suppress(ValueError):
                card = front_matter(self.store.blob(readme.sha256).read_text(errors="replace"))
        tags = card.get("tags") or []
        return {
            "_id": hashlib.sha1(repo.url.encode()).hexdigest()[:24],
            "id": repo.id,
            "author": repo.id.split("/")[0],
            "sha": sha,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "createdAt": repo.created,
            "lastModified": commit.date,
            "tags": tags if isinstance(tags, list) else [tags],
            "siblings": siblings,
            **({"cardData": card} if card else {}),
            **{key: card[key] for key in ("library_name", "pipeline_tag") if key in card},
        }

    def is_lfs(self, path: str, size: int, sample: bytes) -> bool:
        name = path.rsplit("/", 1)[-1]
        return b"\0" in sample or any(fnmatch.fnmatch(name, p) for p in LFS_PATTERNS)

    # -- routes: account and repos

    def whoami(self, call: Call) -> Answer:
        if call.user is None:
            raise HubError(401, "Invalid username or password.")
        return Answer(
            json={
                "type": "user",
                "name": call.user.name,
                "fullname": call.user.name.title(),
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": call.user.role}},
            }
        )

    def validate_yaml(self, call: Call) -> Answer:
        content = call.json()["content"]
        try:
            metadata = front_matter(content)
        except ValueError as error:
            return Answer(400, json={"errors": [{"message": str(error)}], "warnings": [], "error": str(error)})
        warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        return Answer(json={"errors": [], "warnings": warnings})

    def create_repo(self, call: Call) -> Answer:
        data = call.json()
        owner, type_ = data.get("organization") or (call.user.name if call.user else ""), data.get("type") or "model"
        self.may_write(call, owner)
        id_ = f"{owner}/{data['name']}"
        with self.store.lock:
            if repo := self.store.repos.get((type_, id_)):
                return Answer(
                    409,
                    json={"error": f"You already created this {type_} repo", "url": self.endpoint + repo.url},
                    headers={"X-Error-Message": f"You already created this {type_} repo"},
                )
            private = data.get("private", False) or data.get("visibility") == "private"
            repo = self.store.repos[type_, id_] = Repo(type_, id_, private, now())
            content = GITATTRIBUTES.encode()
            file = File(len(content), self.store.add_bytes(content), git_oid(content), False)
            self.store.commit(repo, "main", "initial commit", "", call.author, {".gitattributes": file})
        return Answer(json={"url": self.endpoint + repo.url, "name": id_, "id": id_})

    def variable(self, call: Call) -> Answer:
        repo, data = self.repo(call, write=True), call.json()
        self.variables.setdefault(repo.id, {})[data["key"]] = data["value"]
        return Answer(json={data["key"]: {"value": data["value"]}})

    def repo_info(self, call: Call) -> Answer:
        repo = self.repo(call)
        sha = repo.resolve(call.params.get("revision", "main"))
        return Answer(json=self.info(repo, sha, "blobs" in call.query))

    # -- routes: reading history and trees

    def tree(self, call: Call) -> Answer:
        repo = self.repo(call)
        sha = repo.resolve(call.params["revision"])
        files, base = repo.commits[sha].files, unquote(call.params.get("path", "")).strip("/")
        prefix = f"{base}/" if base else ""
        if base and not any(path.startswith(prefix) for path in files):
            raise HubError(404, f"{base} does not exist on {sha!r}", "EntryNotFound")
        recursive = call.query.get("recursive", ["false"])[0].lower() in ("1", "true")
        entries: dict[str, dict[str, Any]] = {}
        for path, file in sorted(files.items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts)) if recursive else range(1, min(2, len(parts))):
                folder = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(f"{sha}:{folder}".encode()).hexdigest()
                entries.setdefault(folder, {"type": "directory", "oid": oid, "size": 0, "path": folder})
            if recursive or len(parts) == 1:
                entries[path] = self.entry(path, file)
        return Answer(json=list(entries.values()))

    # -- routes: writing. preupload says which files are LFS; LFS content is PUT to storage; the commit comes last

    def preupload(self, call: Call) -> Answer:
        repo = self.repo(call, write=True)
        files = repo.commits[repo.resolve(call.params["revision"])].files
        ignored = [line for line in call.json().get("gitIgnore", "").splitlines() if line and line[0] not in "#!"]
        answer = []
        for item in call.json()["files"]:
            path, known = item["path"], files.get(item["path"])
            lfs = self.is_lfs(path, item["size"], base64.b64decode(item.get("sample", "")))
            answer.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": any(fnmatch.fnmatch(path, p.rstrip("/") + "*") for p in ignored),
                    **({"oid": known.etag} if known and known.lfs == lfs else {}),
                }
            )
        return Answer(json={"files": answer, "commitOid": repo.resolve(call.params["revision"])})

    def lfs_batch(self, call: Call) -> Answer:
        data, upload = call.json(), call.json().get("operation") != "download"
        repo = self.repo(call, write=upload)
        objects = []
        for item in data["objects"]:
            oid, size = item["oid"], item["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
            if not re.fullmatch("[0-9a-f]{64}", oid):
                answer["error"] = {"code": 422, "message": "invalid oid"}
            elif not upload:
                answer["actions"] = {"download": {"href": self.sign(f"/_storage/{oid}")}}
            elif not self.store.blob(oid).exists():
                verify = {"href": f"{self.endpoint}{repo.url}.git/info/lfs/objects/verify"}
                action: dict[str, Any] = {"href": self.sign(f"/_storage/{oid}")}
                answer["actions"] = {"upload": action, "verify": verify}
            objects.append(answer)
        return Answer(json={"transfer": "basic", "objects": objects})

    def lfs_verify(self, call: Call) -> Answer:
        self.repo(call, write=True)
        blob = self.store.blob(call.json()["oid"])
        if not blob.exists() or blob.stat().st_size != call.json()["size"]:
            raise HubError(404, "LFS object is missing or has another size")
        return Answer(json={})

    def storage_put(self, call: Call) -> Answer:
        self.check_signature(call)
        with self.store.new_blob(expect=call.params["oid"]) as writer:
            call.stream_body(writer.write)
        return Answer(headers={"ETag": f'"{writer.sha256}"'})

    def storage_get(self, call: Call) -> Answer:
        self.check_signature(call)
        blob = self.store.blob(call.params["oid"])
        if not blob.exists():
            raise HubError(404, "no such object")
        return Answer(body=blob, headers={"ETag": f'"{call.params["oid"]}"'})

    def commit(self, call: Call) -> Answer:
        lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        branch = call.params["revision"]
        with self.store.lock:
            repo = self.repo(call, write=True)
            if branch not in repo.branches:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = repo.branches[branch]
            if (expected := header.get("parentCommit")) and not head.startswith(expected):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repo.commits[head].files)
            for line in lines:
                if line["key"] != "header":
                    self.apply(line["key"], line["value"], files)
            if "README.md" in files:
                with suppress(FileNotFoundError):
                    try:
                        front_matter(self.store.blob(files["README.md"].sha256).read_text(errors="replace"))
                    except ValueError as error:
                        raise HubError(400, f"Invalid metadata in README.md: {error}") from error
            sha = self.store.commit(repo, branch, header["summary"], header.get("description", ""), call.author, files)
        url = f"{self.endpoint}{repo.url}/commit/{sha}"
        return Answer(json={"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def apply(self, key: str, value: dict[str, Any], files: dict[str, File]) -> None:
        """Apply one line of a commit payload to a tree."""
        path = value["path"]
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise HubError(400, f"invalid path {path!r}")
        if key == "file":
            content = value["content"]
            data = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
            files[path] = File(len(data), self.store.add_bytes(data), git_oid(data), False)
        elif key == "lfsFile":
            blob = self.store.blob(value["oid"])
            if not blob.exists():
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            size, xet = blob.stat().st_size, self.root / "xet" / f"{value['oid']}.sha256"
            pointer = git_oid(lfs_pointer(value["oid"], size))
            files[path] = File(size, value["oid"], pointer, True, xet.read_text() if xet.exists() else None)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del files[name]
        else:
            raise HubError(400, f"unknown operation {key!r}")

    # -- routes: downloads

    def resolve(self, call: Call) -> Answer:
        repo = self.repo(call)
        sha, path = repo.resolve(call.params["revision"]), unquote(call.params["path"])
        headers = {"X-Repo-Commit": sha}
        file = repo.commits[sha].files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", **headers)
        if not file.lfs:
            headers |= {"ETag": f'"{file.oid}"', "Content-Disposition": f'inline; filename="{path.split("/")[-1]}";'}
            return Answer(body=self.store.blob(file.sha256), headers=headers)
        headers |= {
            "Location": self.sign(f"/_storage/{file.sha256}"),
            "X-Linked-Size": str(file.size),
            "X-Linked-ETag": f'"{file.sha256}"',
        }
        if file.xet:
            token_url = f"{self.endpoint}/api/{repo.type}s/{repo.id}/xet-read-token/{sha}"
            headers |= {"X-Xet-Hash": file.xet, "Link": f'<{token_url}>; rel="xet-auth"'}
        return Answer(302, body=b"Found. Redirecting", headers=headers)

    # -- routes: Xet. Content comes as xorbs (runs of chunks) and shards (which chunks make up which file)

    def xet_token(self, call: Call) -> Answer:
        kind = call.params["kind"]
        self.repo(call, write=kind == "write")
        expires = int(time.time()) + 3600
        token = f"{kind}.{expires}.{self._signature(f'{kind}.{expires}')}"
        answer = {"accessToken": token, "exp": expires, "casUrl": f"{self.cdn}/_cas"}
        names = {"accessToken": "X-Xet-Access-Token", "exp": "X-Xet-Token-Expiration", "casUrl": "X-Xet-Cas-Url"}
        return Answer(json=answer, headers={names[key]: str(value) for key, value in answer.items()})

    def check_xet_token(self, call: Call, kinds: tuple[str, ...]) -> None:
        kind, _, rest = call.headers.get("Authorization", "").removeprefix("Bearer ").partition(".")
        expires, _, signature = rest.partition(".")
        if kind not in kinds or signature != self._signature(f"{kind}.{expires}") or int(expires) < time.time():
            raise HubError(401, "invalid or expired Xet token")

    def xet_put_xorb(self, call: Call) -> Answer:
        self.check_xet_token(call, ("write",))
        path = self.root / "xorbs" / call.params["hash"]
        new, body = not path.exists(), call.body
        xorb_chunks(body)
        path.write_bytes(body)
        return Answer(json={"was_inserted": new})

    def xet_put_shard(self, call: Call) -> Answer:
        self.check_xet_token(call, ("write",))
        for file in shard_files(call.body):
            with self.store.new_blob(expect=file["sha256"]) as writer:  # so that LFS clients can have it, too
                for xorb, _size, first, end in file["segments"]:
                    data = (self.root / "xorbs" / xorb).read_bytes()
                    for start, stop, scheme in xorb_chunks(data)[first:end]:
                        if scheme:
                            raise HubError(501, "compressed Xet chunks: set HF_XET_XORB_COMPRESSION_POLICY=none")
                        writer.write(data[start + 8 : stop])
            (self.root / "xet" / f"{file['hash']}.json").write_text(json.dumps(file))
            (self.root / "xet" / f"{file['sha256']}.sha256").write_text(file["hash"])
        return Answer(json={"result": 1})

    def xet_reconstruction(self, call: Call) -> Answer:
        self.check_xet_token(call, ("read", "write"))
        path = self.root / "xet" / f"{call.params['hash']}.json"
        if not path.exists():
            raise HubError(404, "no such file")
        segments = json.loads(path.read_text())["segments"]
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range") or "bytes=0-")
        if not found:
            raise HubError(416, "range not understood")
        wanted = range(int(found[1]), int(found[2] or 1 << 62) + 1)
        terms: list[dict[str, Any]] = []
        needed: dict[str, tuple[int, int]] = {}
        fetch: dict[str, Any] = {}
        offset = position = 0
        for xorb, size, first, end in segments:
            if position < wanted.stop and position + size > wanted.start:
                if not terms:
                    offset = max(wanted.start - position, 0)
                terms.append({"hash": xorb, "unpacked_length": size, "range": {"start": first, "end": end}})
                low, high = needed.get(xorb, (first, end))
                needed[xorb] = min(low, first), max(high, end)
            position += size
        if segments and not terms:
            raise HubError(416, "range not satisfiable")
        for xorb, (first, end) in needed.items():  # one range per xorb: ranges of one xorb must not overlap
            chunks = xorb_chunks((self.root / "xorbs" / xorb).read_bytes())
            where = {"start": chunks[first][0], "end": chunks[end - 1][1] - 1}
            url = self.sign(f"/_storage/xorb/{xorb}")
            fetch[xorb] = [{"range": {"start": first, "end": end}, "url": url, "url_range": where}]
        return Answer(json={"offset_into_first_range": offset, "terms": terms, "fetch_info": fetch})

    def xet_get_xorb(self, call: Call) -> Answer:
        self.check_signature(call)
        return Answer(body=self.root / "xorbs" / call.params["hash"])

    def nothing(self, call: Call) -> Answer:
        """Telemetry and the like: accepted and forgotten."""
        return Answer(json={})


# Routes are tried in order. {api} and {web} are the two ways in which the Hub's URLs name a repo.
_API = r"/api/(?P<type>model|dataset|space)s/(?P<id>[^/]+/[^/]+)"
_WEB = r"/(?:(?P<type>dataset|space)s/)?(?P<id>[^/]+/[^/]+)"
_REV = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[[HubStandIn, Call], Answer]]] = [
    (method, re.sub("{(api|web|rev)}", lambda m: {"api": _API, "web": _WEB, "rev": _REV}[m[1]], path), handler)
    for method, path, handler in [
        ("PUT", "/_storage/(?P<oid>[0-9a-f]{64})", HubStandIn.storage_put),
        ("GET|HEAD", "/_storage/(?P<oid>[0-9a-f]{64})", HubStandIn.storage_get),
        ("GET", f"/_storage/xorb/{XET_HASH}", HubStandIn.xet_get_xorb),
        ("POST", f"/_cas/v1/xorbs/default/{XET_HASH}", HubStandIn.xet_put_xorb),
        ("POST", "/_cas/v1/shards", HubStandIn.xet_put_shard),
        ("GET", f"/_cas/v1/reconstructions/{XET_HASH}", HubStandIn.xet_reconstruction),
        ("GET", "{api}/xet-(?P<kind>read|write)-token/{rev}", HubStandIn.xet_token),
        ("GET", "/api/whoami-v2", HubStandIn.whoami),
        ("POST", "/api/validate-yaml", HubStandIn.validate_yaml),
        ("GET|HEAD|POST", "/api/(telemetry/.*|agent-harnesses)", HubStandIn.nothing),
        ("POST", "/api/repos/create", HubStandIn.create_repo),
        ("GET", "{api}", HubStandIn.repo_info),
        ("GET", "{api}/revision/{rev}", HubStandIn.repo_info),
        ("POST", "{api}/variables", HubStandIn.variable),
        ("GET", "{api}/tree/{rev}(?:/(?P<path>.*))?", HubStandIn.tree),
        ("POST", "{api}/preupload/{rev}", HubStandIn.preupload),
        ("POST", "{api}/commit/{rev}", HubStandIn.commit),
        ("POST", r"{web}\.git/info/lfs/objects/batch", HubStandIn.lfs_batch),
        ("POST", r"{web}\.git/info/lfs/objects/verify", HubStandIn.lfs_verify),
        ("GET|HEAD", "{web}/resolve/{rev}/(?P<path>.+)", HubStandIn.resolve),
    ]
]


# ------------------------------------------------------------------------------------------------- HTTP machinery


class Call:
    """One request, as the routes see it."""

    def __init__(self, handler: _Handler, entry: Request, fault: Fault | None) -> None:
        self._handler, self._entry, self._fault = handler, entry, fault
        self.method, self.path, self.headers = entry.method, entry.path, handler.headers
        self.query = parse_qs(entry.query, keep_blank_values=True)
        self.params: dict[str, str] = {}
        self.user: User | None = None
        self._body: bytes | None = None
        self._unread = handler.headers.get("Transfer-Encoding", "").lower() == "chunked" or int(
            handler.headers.get("Content-Length") or 0
        )

    def stream_body(self, write: Callable[[bytes], Any]) -> None:
        """Pass the request body on in pieces; this is where a ``drop_upload`` strikes."""
        limit = self._fault.after if self._fault and self._fault.kind == "drop_upload" else None
        for chunk in self._handler.body_chunks():
            self._entry.bytes_in += len(chunk)
            if limit is not None and self._entry.bytes_in >= limit:
                raise DropConnectionError
            write(chunk)
        self._unread = 0
        if limit is not None:
            raise DropConnectionError

    @property
    def author(self) -> str:
        return self.user.name if self.user else "anonymous"

    @property
    def body(self) -> bytes:
        if self._body is None:
            chunks: list[bytes] = []
            if self._unread:
                self.stream_body(chunks.append)
            self._body = b"".join(chunks)
        return self._body

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise HubError(400, f"invalid JSON: {error}") from error

    def drain(self) -> None:
        """Read what is left of the body, so that the connection can carry the next request."""
        if self._unread:
            self.stream_body(lambda _: None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    hub: HubStandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "HubStandIn"
    disable_nagle_algorithm = True
    timeout = 120
    server: _Server

    def log_message(self, *_: object) -> None:
        """No access log on stderr; there is HubStandIn.log."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.dispatch
        raise AttributeError(name)

    def body_chunks(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(left, CHUNK))
            if not chunk:
                raise DropConnectionError
            left -= len(chunk)
            yield chunk

    def dispatch(self) -> None:
        hub, url, started = self.server.hub, urlsplit(self.path), time.monotonic()
        with hub._lock:
            fault = next((f for f in hub.faults if f.take(self.command, url.path)), None)
            entry = Request(len(hub.log), self.command, url.path, url.query, range=self.headers.get("Range"))
            entry.authorization = "Authorization" in self.headers
            entry.fault = fault.kind if fault else None
            hub.log.append(entry)
        call = Call(self, entry, fault)
        try:
            self.send(call, self.handle_call(hub, call), fault)
        except (DropConnectionError, ConnectionError, TimeoutError):
            self.hang_up(rst=bool(fault and fault.rst))
        finally:
            entry.seconds = round(time.monotonic() - started, 4)

    def handle_call(self, hub: HubStandIn, call: Call) -> Answer:
        fault = call._fault
        if fault and fault.kind == "drop":
            raise DropConnectionError
        if fault and fault.kind == "delay":
            time.sleep(fault.seconds)
        try:
            if fault and fault.kind == "status":
                text = fault.body if isinstance(fault.body, str) else None
                data = None if text is not None else fault.body or {"error": f"injected {fault.status}"}
                answer = Answer(fault.status, json=data, body=(text or "").encode(), headers=dict(fault.headers))
            else:
                answer = self.route(hub, call)
        except HubError as error:
            answer = Answer(error.status, json={"error": error.message}, headers=error.headers)
        except (KeyError, ValueError, TypeError) as error:
            answer = Answer(500, json={"error": f"stand-in failed: {error!r}"})
        call.drain()
        if fault and fault.kind == "drop_response":
            raise DropConnectionError
        return answer

    def route(self, hub: HubStandIn, call: Call) -> Answer:
        for methods, pattern, handler in ROUTES:
            if re.fullmatch(methods, call.method) and (found := re.fullmatch(pattern, call.path)):
                params = {k: v if k == "path" else unquote(v) for k, v in found.groupdict().items() if v is not None}
                call.params = {"type": "model", **params}
                if not call.path.startswith("/_"):
                    call.user = hub.authenticate(call.headers.get("Authorization"))
                    call._entry.user = call.user.name if call.user else None
                return handler(hub, call)
        raise HubError(404, f"no such route on the stand-in: {call.method} {call.path}")

    def send(self, call: Call, answer: Answer, fault: Fault | None) -> None:
        kind, after = (fault.kind, fault.after) if fault else (None, 0)
        entry, body, headers, status = call._entry, answer.body, dict(answer.headers), answer.status
        if answer.json is not None:
            body = json.dumps(answer.json).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        start, stop = 0, size
        if isinstance(body, Path):
            headers.setdefault("Content-Type", "application/octet-stream")
            headers["Accept-Ranges"] = "bytes"
            found = re.fullmatch(r"bytes=(\d*)-(\d*)", entry.range or "")
            if found and found.group(0) != "bytes=-":
                first, last = found.groups()
                start = int(first) if first else max(size - int(last), 0)
                stop = min(int(last) + 1, size) if first and last else size
                if start >= size:
                    status, start, stop = 416, 0, 0
                    headers["Content-Range"] = f"bytes */{size}"
                else:
                    status = 206
                    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if kind == "truncate":
            stop = max(start, min(stop, after))
        limit = start + after if kind in ("drop_download", "stall") else stop

        entry.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", f"standin-{entry.n}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            for chunk in self.read(body, start, min(stop, limit), start + after if kind == "corrupt" else None):
                entry.bytes_out += len(chunk)  # before writing: the client may look at the log right after reading
                self.wfile.write(chunk)
        if fault and kind == "stall":
            time.sleep(fault.seconds)
        if kind in ("drop_download", "stall"):
            raise DropConnectionError

    @staticmethod
    def read(body: bytes | Path, start: int, stop: int, flip: int | None) -> Iterator[bytes]:
        """The bytes from start to stop, in pieces, with the byte at offset ``flip`` inverted."""
        with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as source:
            source.seek(start)
            while start < stop and (chunk := source.read(min(CHUNK, stop - start))):
                if flip is not None and 0 <= (at := flip - start) < len(chunk):
                    chunk = chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :]
                yield chunk
                start += len(chunk)

    def hang_up(self, rst: bool) -> None:
        self.close_connection = True
        with suppress(OSError):
            if rst:  # linger 0: the kernel sends RST and throws away what was not delivered yet
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
