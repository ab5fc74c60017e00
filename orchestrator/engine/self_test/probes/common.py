"""What the probes share: saying what was seen, and trying a call."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any, Callable, Iterator

SAID: list[dict[str, Any]] = []


def say(group: int, check: str, proven: bool | None, observed: str, reason: str = "") -> None:
    """One check. `proven` None: not applicable, for the reason given."""
    SAID.append({"group": group, "check": check, "proven": proven, "observed": observed, "reason": reason})


def print_said() -> None:
    """A line of JSON for each check since the last time."""
    for one in SAID:
        sys.stdout.write(json.dumps(one) + "\n")
    sys.stdout.flush()
    SAID.clear()


def answer(call: Callable[[], Any]) -> str:
    """`ok`, or the name of the error."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def opened(path: str, flags: int) -> Callable[[], None]:
    """Opens and closes it."""
    return lambda: os.close(os.open(path, flags))


def in_child(call: Callable[[], str]) -> str:
    """Its answer, made in a process of its own: what gets through may change what later calls may do."""
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
    """Of this process."""
    with open("/proc/self/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def mounts() -> Iterator[tuple[str, list[str], str]]:
    """(place, words before the dash, type of the file system)."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            words = before.split()
            yield words[4].replace("\\040", " "), words, after.split()[0]


def cgroup_file(*names: str) -> str | None:
    """Text of the first of these files of the container's own cgroup that is there."""
    for name in names:
        try:
            with open("/sys/fs/cgroup/" + name) as file:
                return file.read().strip()
        except OSError:
            continue
    return None
