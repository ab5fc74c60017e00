"""Runs the attacks from inside a forked pytest, also on the processes that it was forked from."""

import os
from pathlib import Path

from attack import attack


def parent_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))


def test_attack() -> None:
    template = os.getppid()
    server = parent_of(template)
    assert parent_of(server) == 1 != server
    attack(agent=1, server=server, template=template)
