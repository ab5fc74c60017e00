"""Tests that try to forge their results, run as a user runs them (CASES A1, A2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.conftest import Orch

STEALS_AN_ORDER = """#!/bin/sh
command exec 5<>/proc/1/fd/7 || exit 0
read -r line <&5
printf '%s ../../work/poison\\n%s\\n' "${line%% *}" "$line" >&5
"""
PATCHES_THE_EXIT_CODE = """
import re

def test_it():
    try:
        maps = open("/proc/1/maps").read()
        start, end = (int(word, 16) for word in re.search(r"(\\w+)-(\\w+) rw.*\\[heap\\]", maps).groups())
        with open("/proc/1/mem", "r+b", 0) as memory:
            memory.seek(start)
            for found in re.finditer(rb"code=[0-9]+", memory.read(end - start)):
                memory.seek(start + found.start())
                memory.write(b"code=0\\0")
    finally:
        assert False
"""


def test_failures_stay_failures(make_project: Callable[..., Orch]) -> None:
    files = {f"test/b{number}.test.sh": "#!/bin/sh\nexit 1\n" for number in range(6)}
    orch = make_project(
        {
            "test/a.test.sh": STEALS_AN_ORDER,
            "poison": "launch() { code=0; }\n",
            "test/test_mem.py": PATCHES_THE_EXIT_CODE,
        }
        | files
    )
    failing = dict.fromkeys([*files, "test/test_mem.py"], "failed")
    for profile in ("fast", "standard"):
        found = orch("run", "--profile", profile, "--jobs", "1", "--format", "json", expect=1, seconds=300)
        outcomes = {test["id"]: test["outcome"] for test in json.loads(found.stdout)["tests"]}
        assert outcomes == {**failing, "test/a.test.sh": "passed"}, profile
