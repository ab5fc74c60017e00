"""Adds a shell to an image that the tests' user may execute but not read, so that tests cannot reach the agent.

A process whose program file is not readable by its user is not dumpable: the kernel denies other processes of that
user access to its memory, descriptors and environment. Such a file must belong to root, so it is added in a
prepared image, made once per image, together with the entries of user and group 1001. docs/design/engine/images.md
has the reasons.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

from orchestrator.engine.locks import named_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.engine.base import ImageEngine

SHELL = "/.orch/sh"
"""The agent's shell. It is named `sh` because multi-call programs choose their function by that name."""
ORDINARY_SHELL = "/bin/sh"
USER_NAME = "testuser"
UID = GID = 1001
LABEL = "io.orch.agent-shell"
"""The label of a prepared image; its value is the number of the format."""
SOURCE_LABEL = "io.orch.prepared-from"
REPOSITORY = "orch/prepared"
_FORMAT = "1"
_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_USER_LINE = f"{USER_NAME}:x:{UID}:{GID}:runs the tests:/tmp:/bin/sh\n".encode()
_GROUP_LINE = f"{USER_NAME}:x:{GID}:\n".encode()


def prepared_image(engine: ImageEngine, image_id: str, on_line: Callable[[str], None] = lambda _: None) -> str:
    """Return the ID of the prepared image of `image_id`; make it if it is missing, one process at a time.

    An image without a shell gets the entries of the user only. `on_line` is called with a line if another process
    is preparing the image. Raises EngineError.
    """
    found = find_prepared(engine, image_id)
    if found is not None:
        return found
    tag = _tag(image_id)
    with named_lock(tag, lambda: on_line(f"another orch is preparing image {image_id}: waiting")):
        found = engine.find_image(tag)
        if found is None:
            files = engine.read_files(image_id, (ORDINARY_SHELL, _PASSWD, _GROUP))
            labels = {LABEL: _FORMAT, SOURCE_LABEL: image_id}
            found = engine.add_files(image_id, _archive(files), tag, labels)
    return found


def find_prepared(engine: ImageEngine, image_id: str) -> str | None:
    """Return the ID of the prepared image of `image_id`, or None if it was not made yet."""
    found = engine.find_image(_tag(image_id))
    if found is None and engine.image_labels(image_id).get(LABEL) == _FORMAT:
        return image_id
    return found


def _tag(image_id: str) -> str:
    return f"{REPOSITORY}:{hashlib.sha256(f'{_FORMAT} {image_id}'.encode()).hexdigest()[:16]}"


def _archive(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        shell = files.get(ORDINARY_SHELL)
        if shell is not None:
            _add(archive, ".orch", None, 0o755)
            _add(archive, SHELL, shell, 0o711)
        if _PASSWD not in files:
            _add(archive, "etc", None, 0o755)
        root = b"root:x:0:0:root:/root:/bin/sh\n"
        _add(archive, _PASSWD, with_entry(files.get(_PASSWD, root), _USER_LINE), 0o644)
        _add(archive, _GROUP, with_entry(files.get(_GROUP, b"root:x:0:\n"), _GROUP_LINE), 0o644)
    return held.getvalue()


def _add(archive: tarfile.TarFile, path: str, content: bytes | None, mode: int) -> None:
    """Add a file that belongs to root, or a folder if `content` is None."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.mode = mode
    if content is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def with_entry(table: bytes, entry: bytes) -> bytes:
    """Return a passwd or group table in which `entry` is the first one with its name and its number.

    Other names of the same number are kept after it.
    """
    ours = entry.split(b":")[:3:2]
    first = next((words for words in _of_lines(table) if words[0] == ours[0] or words[1:] == ours[1:]), None)
    return table if first == ours else entry + table


def _of_lines(table: bytes) -> list[list[bytes]]:
    """Return the [name, number] of each line that has both."""
    return [words[:3:2] for words in (line.split(b":") for line in table.splitlines()) if len(words) > 2]
