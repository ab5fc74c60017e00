"""Files that orch writes for itself and for others: the user's cache folder, and files that appear whole or not at
all.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/orch`, or `~/.cache/orch`; it may not be there. RuntimeError: the user has no home."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    return Path(home) / "orch"


def replace_file(path: Path, content: bytes | Iterable[bytes], *, mode: int | None = None) -> None:
    """Write beside `path`, then rename: a reader never sees half a file, a failed write keeps the old one. A
    device or a pipe is written to and stays.

    `content` in one piece or in many; `mode`: the permissions, None: those that the umask allows. Raises OSError.
    """
    import tempfile

    pieces = [content] if isinstance(content, bytes) else content
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as stream:
            stream.writelines(pieces)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(pieces)
            os.fchmod(stream.fileno(), 0o666 & ~_umask() if mode is None else mode)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    # Reading the umask by setting it would race with other threads that create files.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077
