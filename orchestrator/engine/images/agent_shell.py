"""Gives an image what the agent needs to be out of a test's reach: a shell that its user may run and not read.

A process whose program file its user cannot read is not dumpable: the kernel refuses that user its memory, its
descriptors and its environment, also to other processes of the same user. Such a file must be root's, so it is
part of an image of its own, made once of each image. The entries of user and group 1001 are added on the way.
docs/design/images.md has the reasons.
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
"""Only the agent runs it. Its name is `sh`, by which a multi-call program knows what it is to be."""
ORDINARY_SHELL = "/bin/sh"
USER_NAME = "testuser"
UID = GID = 1001
LABEL = "io.orch.agent-shell"
"""On an image that has been prepared: the number of the format."""
SOURCE_LABEL = "io.orch.prepared-from"
REPOSITORY = "orch/prepared"
_FORMAT = "1"
_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_USER_LINE = f"{USER_NAME}:x:{UID}:{GID}:runs the tests:/tmp:/bin/sh\n".encode()
_GROUP_LINE = f"{USER_NAME}:x:{GID}:\n".encode()


def prepared_image(engine: ImageEngine, image_id: str, on_line: Callable[[str], None] = lambda _: None) -> str:
    """ID of the image that containers of `image_id` are made of; made if it is not there yet, once, however many
    processes want it. An image without a shell gets the entries of the user only.
    """
    tag = f"{REPOSITORY}:{hashlib.sha256(f'{_FORMAT} {image_id}'.encode()).hexdigest()[:16]}"
    found = engine.find_image(tag)
    if found is not None:
        return found
    if engine.image_labels(image_id).get(LABEL) == _FORMAT:
        return image_id
    with named_lock(tag, lambda: on_line(f"another orch is preparing image {image_id}: waiting")):
        found = engine.find_image(tag)
        if found is None:
            files = engine.read_files(image_id, (ORDINARY_SHELL, _PASSWD, _GROUP))
            labels = {LABEL: _FORMAT, SOURCE_LABEL: image_id}
            found = engine.add_files(image_id, _archive(files), tag, labels)
    return found


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
    """Add a file, or a folder for None, that is root's."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.mode = mode
    if content is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def with_entry(table: bytes, entry: bytes) -> bytes:
    """A table of users or groups in which the id of `entry` has the name of `entry`. Ours comes first, so that it
    is what is found by its number and by its name; other names of the same number stay known.
    """
    ours = entry.split(b":")[:3:2]
    first = next((words for words in _of_lines(table) if words[0] == ours[0] or words[1:] == ours[1:]), None)
    return table if first == ours else entry + table


def _of_lines(table: bytes) -> list[list[bytes]]:
    """Name and number of each line that has them."""
    return [words[:3:2] for words in (line.split(b":") for line in table.splitlines()) if len(words) > 2]
