"""A build context's content as one digest, remembered for as long as none of its files has changed.

A context is looked at in each run, and is the same in nearly all: 520 files take 0.1 s to read and 4 ms to list.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.engine.context import is_of_few, open_context, places
from orchestrator.engine.locks import cache_folder
from orchestrator.errors import EngineError
from orchestrator.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from orchestrator.model import ImageSpec

MOST_FILES = 5000
"""Of a larger context nothing is remembered: listing it may take longer than reading what .dockerignore leaves."""
SETTLED_SECONDS = 2.0
"""What has changed so lately may change again without its times telling: a file system's clock has ticks."""


def content_of(spec: ImageSpec) -> tuple[str, str]:
    """Digest of the tar stream of the spec's context, and the Dockerfile's name in it. ImageError."""
    asked_at = time.time()
    state, changed_at = _state(spec)
    file = None if state is None else _memory(spec)
    if file is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(file.read_text(encoding="utf-8"))
            if known["state"] == state:
                return str(known["content"]), str(known["dockerfile"])
    stream, dockerfile = open_context(spec)
    with stream:
        content = digest_of(stream)
    if file is not None and changed_at < asked_at - SETTLED_SECONDS and _state(spec)[0] == state:
        _remember(file, {"state": state, "content": content, "dockerfile": dockerfile})
    return content, dockerfile


def digest_of(stream: BinaryIO) -> str:
    """Of all bytes; the stream is at its start then."""
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    stream.seek(0)
    return digest.hexdigest()


def _state(spec: ImageSpec) -> tuple[str | None, float]:
    """A digest over name, kind, size and times of each file, and when the last one changed (seconds since the
    epoch). None: there is no use in remembering it.
    """
    dockerfile, context = places(spec)
    if is_of_few(context):
        return None, 0.0
    digest = hashlib.sha256(repr(_status(os.lstat(dockerfile))).encode())
    changed_ns = os.lstat(dockerfile).st_ctime_ns
    count = 0
    try:
        for name, status in _listed(str(context)):
            digest.update(f"{name!r} {_status(status)}\n".encode())
            changed_ns = max(changed_ns, status.st_ctime_ns, status.st_mtime_ns)
            count += 1
            if count > MOST_FILES:
                return None, 0.0
    except OSError:  # reading the context says which file it is, and what to do
        return None, 0.0
    return digest.hexdigest(), changed_ns / 1e9


def _status(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _listed(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """All below the folder, in a fixed order; a link is not followed."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _listed(entry.path)


def _memory(spec: ImageSpec) -> Path | None:
    """Where it is remembered; None: nowhere."""
    name = hashlib.sha256("\0".join(map(str, places(spec))).encode()).hexdigest()[:24]
    with suppress(OSError, EngineError):
        folder = cache_folder() / "contexts"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.json"
    return None


def _remember(file: Path, known: dict[str, str | None]) -> None:
    with suppress(OSError):  # a cache that cannot be written costs the next run a tenth of a second
        replace_file(file, json.dumps(known).encode())
