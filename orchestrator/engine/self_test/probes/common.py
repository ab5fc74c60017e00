"""Reports checks and tries calls, for all probes."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any, Callable, Iterator

SAID: list[dict[str, Any]] = []


def say(group: int, check: str, proven: bool | None, observed: str, reason: str = "") -> None:
    """Add a check to the report. `proven` is None if it does not apply; `reason` says why."""
    SAID.append({"group": group, "check": check, "proven": proven, "observed": observed, "reason": reason})


def print_said() -> None:
    """Print a line of JSON for each check added since the last call."""
    for one in SAID:
        sys.stdout.write(json.dumps(one) + "\n")
    sys.stdout.flush()
    SAID.clear()


def answer(call: Callable[[], Any]) -> str:
    """Return `ok`, or the name of the error that the call raised."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def opened(path: str, flags: int) -> Callable[[], None]:
    """Return a function that opens and closes the file."""
    return lambda: os.close(os.open(path, flags))


def in_child(call: Callable[[], str]) -> str:
    """Return the call's answer from a process of its own, because a successful call may affect later ones."""
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(there, call().encode()[:200])
        finally:
            os._exit(0)
    os.close(there)
    said = os.read(here, 200).decode()
    os.close(here)
    _, status = os.waitpid(pid, 0)
    return said or ("ended by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "no answer")


def status() -> dict[str, str]:
    """Return the fields of /proc/self/status."""
    with open("/proc/self/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def mounts() -> Iterator[tuple[str, list[str], str]]:
    """Yield (path, words before the dash, file system type) of each mount."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            words = before.split()
            yield words[4].replace("\\040", " "), words, after.split()[0]


def cgroup_file(*names: str) -> str | None:
    """Return the text of the first of these files that exists in the container's cgroup, None if none does."""
    for name in names:
        try:
            with open("/sys/fs/cgroup/" + name) as file:
                return file.read().strip()
        except OSError:
            continue
    return None
