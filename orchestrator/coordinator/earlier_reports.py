"""Remove the report files that a command line names, before the command starts.

Otherwise, if the command fails, the report of an earlier run could be taken for its own
(docs/design/reports/report-files.md).
"""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOOK_BYTES = 4096
_METRICS = (b"# type ", b"# help ", b"# unit ", b"# eof")
_STARTS: Mapping[str, tuple[bytes, ...]] = {
    "junit": (b"<?xml", b"<testsuite"),
    "sarif": (b"{",),
    "ctrf": (b"{",),
    "gitlab_metrics": _METRICS,
    "html": (b"<!doctype html",),
    "prometheus": _METRICS,
}
"""The beginnings of each option's report, in lower case and without leading white space."""
_CONTAINS: Mapping[str, bytes] = {
    "junit": b"<testsuite",
    "sarif": b"sarif",
    "ctrf": b"ctrf",
    "gitlab_metrics": b"# ",
    "html": b"<head",
    "prometheus": b"# ",
}
"""A text in the first `_LOOK_BYTES` of each option's report, in lower case."""


def remove_earlier_reports(named: Mapping[str, Path | None]) -> None:
    """Remove the files of report options.

    `named` maps names of options (such as `gitlab_metrics`) to files; options that write no report are ignored.
    Devices and pipes are left alone. Raises UsageError if a file is a folder, cannot be removed, or is no report
    that its option writes: the command line may name another file by mistake. Such a file is not changed.
    """
    for option in _STARTS:
        path = named.get(option)
        if path is not None:
            _remove(path, option)


def remove_reports_named_in(words: Sequence[str]) -> None:
    """Remove the files of report options in a command line that could not be parsed. Raises nothing."""
    for option in _STARTS:
        flag = f"--{option.replace('_', '-')}"
        for word, following in zip(words, (*words[1:], ""), strict=True):
            name = following if word == flag else word.partition("=")[2] if word.startswith(f"{flag}=") else ""
            if name:
                with suppress(UsageError):
                    _remove(Path(name), option)


def _remove(path: Path, option: str) -> None:
    flag = f"--{option.replace('_', '-')}"
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{flag} {path}: this is a folder", remedy="name a file in it")
        if not stat.S_ISREG(status.st_mode):
            return
        with path.open("rb") as file:
            head = file.read(_LOOK_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        if head and not (head.startswith(_STARTS[option]) and _CONTAINS[option] in head):
            raise UsageError(
                f"{flag} {path}: this file exists and is not a report of this option; it was not changed",
                remedy="name another file, or remove this one",
            )
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):  # the code that writes the report reports a wrong name
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{flag} {path}: the report of an earlier run cannot be removed: {reason}",
            remedy="name a file in a folder that can be written",
        ) from error
