"""Whether a test's own memory is the same wherever it runs: at position 1, 7 and 40 of a slot, after tests that
need much, in a fresh container, in a reused one, and forked from a preloaded pytest.

Each kind of test needs a known amount. 45 tests of a mode run one after another in one slot (except `fresh`);
every third one needs much. Prints a Markdown table; the exit code is 1 if a figure is off by more than 1 MiB or 5
%.

`--image` is the tests' image (default: the shipped one, built offline if no registry answers); one that has only a
shell can run `--kinds shell`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 1 << 20
TESTS = 45
POSITIONS = (1, 7, 40)
FOLDERS = 4
SHARE = 0.05
_TOUCH = """\
def test_it():
    held = bytearray({mib} << 20)
    held[::4096] = b"x" * len(held[::4096])
"""
_IMPORTS = """\
def test_it():
    import asyncio, concurrent.futures, email.mime.text, http.client, sqlite3, ssl, unittest.mock, xml.dom.minidom
"""
_TMPFS = """\
def test_it():
    with open("/tmp/x", "wb") as file:
        file.write(bytes({mib} << 20))
"""


@dataclass(frozen=True)
class Kind:
    """Tests with the same need. `mib` is the need beyond that of an empty test of the same suite;
    None: not known.
    """

    name: str
    text: str
    mib: int | None
    shell: bool = False

    @property
    def suffix(self) -> str:
        """The suffix of the test's file name."""
        return ".test.sh" if self.shell else ".py"


_WRITE = "dd if=/dev/zero of=/tmp/x bs=1M count={mib} 2>/dev/null\n"
_HOLD = "dd if=/dev/zero of=/dev/null bs={mib}M count=1 2>/dev/null\n"
KINDS = (
    Kind("shell", ":\n", 0, shell=True),
    Kind("shell_hold_20", _HOLD.format(mib=20), 20, shell=True),
    Kind("shell_tmpfs_10", _WRITE.format(mib=10), 10 + 1, shell=True),  # and dd's buffer
    Kind("pytest", "def test_it():\n    assert True\n", 0),
    Kind("bytearray_20", _TOUCH.format(mib=20), 20),
    Kind("bytearray_60", _TOUCH.format(mib=60), 60),
    Kind("tmpfs_20", _TMPFS.format(mib=20), 20),  # what is written are zeros that were never touched
    Kind("imports", _IMPORTS, None),
)
MODES = ("fresh", "reused", "forked")


def project(folder: Path, mode: str, kinds: Sequence[Kind], image: str | None) -> None:
    """Write the tests: every third is of the kind with the largest need, the others alternate."""
    largest = max(kinds, key=lambda kind: kind.mib or 0)
    others = [kind for kind in kinds if kind is not largest]
    for number in range(TESTS):
        kind = largest if number % 3 == 2 else others[(number - number // 3) % len(others)]
        place = folder / f"d{number * FOLDERS // TESTS}" / f"test_{number:02}_{kind.name}{kind.suffix}"
        place.parent.mkdir(exist_ok=True)
        place.write_text(kind.text, encoding="utf-8")
    preload = "start" if mode == "forked" else "off"
    lines = [
        "version: 1",
        f'images: {{tests: {{reference: "{image}"}}}}' if image else "",
        "default_profile: own",
        "profiles:",
        f"  own: {{inherits: fast, reuse: {1 if mode == 'fresh' else 1000}, timeout: 60s, memory: 256m"
        + (", image: tests}" if image else "}"),
        "suites:",
        '  - {name: shell, match: ["d*/*.test.sh"], runner: shell}',
        f'  - {{name: py, match: ["d*/test_*.py"], runner: pytest, preload: "{preload}"}}'
        if not _is_shell(kinds)
        else "",
    ]
    (folder / "profiles.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _is_shell(kinds: Sequence[Kind]) -> bool:
    return all(kind.shell for kind in kinds)


def _paths() -> list[str]:
    """Return the folders in PYTHONPATH."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def measure(mode: str, kinds: Sequence[Kind], image: str | None) -> list[dict[str, Any]]:
    """Run the tests of a mode and return the last attempt of each, with its kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        project(folder, mode, kinds, image)
        words = [sys.executable, "-m", "orchestrator", "run", "--jobs", "1", "--format", "json"]
        done = subprocess.run(
            [*words, *([] if image else ["--offline-base"])],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *_paths()])},
            capture_output=True,
            check=False,
        )
        try:
            document = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"orch run, exit code {done.returncode}: {done.stderr.decode()}") from None
    return [
        {**test["attempts"][-1], "kind": Path(test["path"]).name[8:].partition(".")[0]}
        for test in document["tests"]
    ]


def judge(
    mode: str, attempts: Sequence[Mapping[str, Any]], kinds: Sequence[Kind]
) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the table and the list of problems."""
    by_kind = defaultdict(list)
    problems = []
    for attempt in attempts:
        by_kind[attempt["kind"]].append(attempt)
        if attempt["outcome"] != "passed":
            problems.append(f"{mode}: a test of kind {attempt['kind']} {attempt['outcome']}: {attempt['message']}")
    rows = []
    for kind in kinds:
        some = by_kind[kind.name]
        exact = [one for one in some if not one["usage"]["memory_peak_is_upper_bound"]]
        own = [one["usage"]["memory_peak_bytes"] for one in exact]
        if not own:
            problems.append(f"{mode}: {kind.name} has bounds only")
            continue
        low, high = min(own), max(own)
        base = by_kind["shell" if kind.shell else "pytest"]
        nothing = median(one["usage"]["memory_peak_bytes"] for one in base)
        want = None if kind.mib is None else nothing + kind.mib * MIB
        off = 0 if want is None else max(abs(low - want), abs(high - want))
        spread = high - low
        for what, error, of in (("spread", spread, high), ("error", off, want or high)):
            if error > max(MIB, SHARE * of):
                problems.append(f"{mode}: {kind.name}: {what} {error / MIB:.2f} MiB")
        near = [min(exact, key=lambda one: abs(one["slot"]["position"] - place)) for place in POSITIONS]
        floors = [one["usage"]["memory_floor_bytes"] or 0 for one in some]
        rows.append(
            [
                mode,
                kind.name,
                "?" if kind.mib is None else f"{kind.mib}",
                *(f"{one['usage']['memory_peak_bytes'] / MIB:.2f} ({one['slot']['position']})" for one in near),
                f"{spread / MIB:.2f}",
                "?" if want is None else f"{off / MIB:.2f}",
                f"{min(floors) / MIB:.1f} to {max(floors) / MIB:.1f}",
                f"{len(some) - len(exact)} of {len(some)}",
            ]
        )
    return rows, problems


HEAD = (
    "mode",
    "kind",
    "needs more, MiB",
    *(f"at {place} (was at)" for place in POSITIONS),
    "spread",
    "worst error",
    "memory before the test",
    "bounds",
)


def main(argv: Sequence[str]) -> int:
    """Print the table and return 1 if a figure is off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--kinds", choices=("all", "shell"), default="all")
    parser.add_argument("--image")
    options = parser.parse_args(argv)
    kinds = [kind for kind in KINDS if kind.shell or options.kinds == "all"]
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
    problems: list[str] = []
    for mode in options.modes:
        rows, wrong = judge(mode, measure(mode, kinds, options.image), kinds)
        print("".join(f"| {' | '.join(row)} |\n" for row in rows), end="", flush=True)
        problems += wrong
    print("".join(f"\n{problem}" for problem in problems), end="\n" if problems else "")
    return bool(problems)
