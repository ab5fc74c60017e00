"""Makes the tar stream of an image's build context, and its digest.

The same files always give the same bytes (sorted names, no times, no owners), so that the digest can name an
image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from orchestrator.engine.locks import make_cache_folder
from orchestrator.errors import EngineError, ImageError
from orchestrator.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from orchestrator.model.profiles import ImageSpec

_SPOOL_BYTES = 8 * 2**20
_FOREIGN_DOCKERFILE = ".orch.Dockerfile"
"""The name that a Dockerfile from outside its context has in the stream."""
_NOTHING_ELSE = ["*"]
"""The .dockerignore of orch's own images, which send the Dockerfile only."""
_BASE_IMAGE = re.compile(r"^[ \t]*ARG[ \t]+BASE_IMAGE[ \t]*=[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReport:
    """The files and sizes of a build context, with and without .dockerignore."""

    context: Path
    files: tuple[str, ...]
    """The sorted names of files and folders, relative to the context."""
    bytes_with_ignore: int
    bytes_without_ignore: int
    files_without_ignore: int


def context_report(spec: ImageSpec) -> ContextReport:
    """Return the sizes of a spec's build context. Raises ImageError if the spec has none or files are missing."""
    dockerfile, context = context_paths(spec)
    names = _selected(context, dockerfile)
    sizes = [path.lstat().st_size for path in _walk(context)]
    return ContextReport(
        context=context,
        files=names,
        bytes_with_ignore=sum(_file_bytes(context / name) for name in names),
        bytes_without_ignore=sum(sizes),
        files_without_ignore=len(sizes),
    )


def open_context(spec: ImageSpec) -> tuple[BinaryIO, str]:
    """Return the tar stream of a spec's context, and the Dockerfile's name in it. The caller closes the stream.

    Raises ImageError if a file cannot be read.
    """
    dockerfile, context = context_paths(spec)
    names = _selected(context, dockerfile)
    # A spooled file, because most contexts have a few kilobytes, but some have gigabytes.
    stream = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - handed to the caller
    try:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in names:
                _add(archive, context / name, name)
            if dockerfile.is_relative_to(context):
                inside = dockerfile.relative_to(context).as_posix()
            else:
                inside = _FOREIGN_DOCKERFILE
                _add(archive, dockerfile, inside)
    except OSError as error:
        stream.close()
        raise ImageError(
            f"image {spec.name}: cannot read {error.filename}: {error.strerror}",
            remedy="make it readable, or exclude it in .dockerignore",
        ) from error
    except BaseException:
        stream.close()
        raise
    stream.seek(0)
    return cast("BinaryIO", stream), inside


def default_base(spec: ImageSpec) -> str | None:
    """Return the default of the Dockerfile's argument BASE_IMAGE, None if it has no such argument."""
    dockerfile, _ = context_paths(spec)
    found = _BASE_IMAGE.search(dockerfile.read_text(encoding="utf-8", errors="replace"))
    return found.group(1).strip("\"'") if found else None


def context_paths(spec: ImageSpec) -> tuple[Path, Path]:
    """Return the absolute paths of a spec's Dockerfile and context folder. Raises ImageError if one is missing."""
    if spec.dockerfile is None:
        raise ImageError(f"image {spec.name} has no Dockerfile, so it has no build context")
    dockerfile = Path(os.path.abspath(spec.dockerfile))  # noqa: PTH100 - resolve() would follow links out of the context
    context = Path(os.path.abspath(spec.context)) if spec.context is not None else dockerfile.parent  # noqa: PTH100
    if not dockerfile.is_file():
        raise ImageError(
            f"image {spec.name}: there is no Dockerfile {dockerfile}",
            remedy="check `images` in profiles.yaml",
        )
    if not context.is_dir():
        raise ImageError(
            f"image {spec.name}: there is no folder {context}", remedy="check `images` in profiles.yaml"
        )
    return dockerfile, context


def _selected(context: Path, dockerfile: Path) -> tuple[str, ...]:
    """Return the sorted names that .dockerignore does not exclude. The Dockerfile is always among them."""
    patterns = _patterns(context)
    inside = dockerfile.relative_to(context).as_posix() if dockerfile.is_relative_to(context) else ".dockerignore"
    if not patterns:
        return tuple(sorted(_everything(context)))
    if patterns == _NOTHING_ELSE:
        return tuple(sorted({inside, ".dockerignore"}))
    from docker.utils.build import exclude_paths  # 0.1 s

    return tuple(sorted(exclude_paths(str(context), patterns, dockerfile=inside)))


def sends_only_dockerfile(context: Path) -> bool:
    """Return whether .dockerignore excludes all files, so that only the Dockerfile and itself are sent."""
    return _patterns(context) == _NOTHING_ELSE


def _patterns(context: Path) -> list[str]:
    """Return the patterns of the context's .dockerignore, without comments."""
    ignore = context / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _everything(context: Path) -> Iterator[str]:
    """Yield the names of all files and folders; links are not followed."""
    for folder, folders, files in os.walk(context):
        inside = Path(folder).relative_to(context)
        yield from ((inside / name).as_posix() for name in (*folders, *files))


def _walk(context: Path) -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(context) for name in names]


def _file_bytes(path: Path) -> int:
    status = path.lstat()
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add an entry without time and owner, whose mode only shows whether it is executable."""
    status = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    elif stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(path), 0o777  # noqa: PTH115 - unchanged text
        archive.addfile(entry)
    elif stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            entry.size = os.fstat(file.fileno()).st_size
            archive.addfile(entry, file)
    # sockets, FIFOs and devices are not part of a context


MOST_FILES = 5000
"""The largest number of files of a cached context: to list more may take longer than to read what is sent."""
SETTLED_SECONDS = 2.0
"""The least age of a file's last change for a cached digest: a file may change again within one clock tick."""


def context_digest(spec: ImageSpec) -> tuple[str, str]:
    """Return the digest of the spec's context, and the Dockerfile's name in it. Raises ImageError.

    The digest is cached in the user's cache folder, as long as no file's status changes.
    """
    asked_at = time.time()
    state, changed_at = _state(spec)
    file = None if state is None else _cache_file(spec)
    if file is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(file.read_text(encoding="utf-8"))
            if known["state"] == state:
                return str(known["content"]), str(known["dockerfile"])
    stream, dockerfile = open_context(spec)
    with stream:
        content = digest_of(stream)
    if file is not None and changed_at < asked_at - SETTLED_SECONDS and _state(spec)[0] == state:
        _write_cache(file, {"state": state, "content": content, "dockerfile": dockerfile})
    return content, dockerfile


def digest_of(stream: BinaryIO) -> str:
    """Return the SHA-256 of all bytes of a stream, and rewind it."""
    digest = hashlib.sha256()
    while block := stream.read(2**20):
        digest.update(block)
    stream.seek(0)
    return digest.hexdigest()


def _state(spec: ImageSpec) -> tuple[str | None, float]:
    """Return a digest of the name, kind, size and times of each file, and the time of the last change (epoch).

    The digest is None if the context is too large for its digest to be cached.
    """
    dockerfile, context = context_paths(spec)
    if sends_only_dockerfile(context):
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
    except OSError:  # the later reading of the context reports the file and the remedy
        return None, 0.0
    return digest.hexdigest(), changed_ns / 1e9


def _status(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _listed(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path and status of all entries below the folder, in a fixed order; links are not followed."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _listed(entry.path)


def _cache_file(spec: ImageSpec) -> Path | None:
    """Return the file in which the digest of a spec's context is cached, None if there is no cache folder."""
    name = hashlib.sha256("\0".join(map(str, context_paths(spec))).encode()).hexdigest()[:24]
    with suppress(OSError, EngineError):
        folder = make_cache_folder() / "contexts"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.json"
    return None


def _write_cache(file: Path, known: dict[str, str | None]) -> None:
    with suppress(OSError):  # without the cache, the next run takes 0.1 s longer
        replace_file(file, json.dumps(known).encode())
