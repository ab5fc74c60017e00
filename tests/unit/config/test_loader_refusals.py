"""Each line that must be refused, with the place and the remedy that the user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.config.loader import load_config
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def _problems(folder: Path, text: str) -> list[str]:
    (folder / "profiles.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path=None, start=folder, env={})
    return caught.value.message.splitlines()


@pytest.mark.parametrize(
    ("keys", "column", "part"),
    [
        ("memmory: 1g", 1, "unknown key `memmory`; did you mean `memory`? accepted: capabilities, cpus,"),
        ("memory: 128", 9, "`128` has no unit; did you mean `128m`?"),
        ("memory: 5m", 9, "at least 6m"),
        ("memory: -1g", 9, "cannot be negative"),
        ("memory:", 8, "no value is given; expected a size"),
        ("memory: [1g]", 9, "expected a size such as 512m, 1g or 64k, not a list"),
        ("memory: {a: 1}", 9, "not a mapping"),
        ("memory: .nan", 9, "is not a size"),
        ("tmpfs: 0m", 8, "more than 0"),
        ("timeout: 0s", 10, "`0s` is too short"),
        ("timeout: 1ns", 10, "is too short"),
        ("timeout: 30", 10, "`30` has no unit; did you mean `30s`?"),
        ("timeout: 1:30", 10, "`1:30` is not a duration"),
        ("cpus: .nan", 7, "`.nan` is not a finite number"),
        ("cpus: .inf", 7, "is not a finite number"),
        ("cpus: nan", 7, "is not a finite number"),
        ("cpus: 0", 7, "a number from 0.01 to 1024"),
        ("cpus: -1", 7, "a number from 0.01 to 1024"),
        ("cpus: 1e999", 7, "a number from 0.01 to 1024"),
        ("cpus: '2'", 7, "remove the quotes"),
        ("cpus: yes", 7, "`yes` is not accepted"),
        ("pids: 1.5", 7, "a whole number"),
        ("pids: 0", 7, "a whole number from 1"),
        ("pids: 0x10", 7, "a whole number"),
        ("pids: 010", 7, "a whole number"),
        ("pids: 1_000", 7, "a whole number"),
        ("reuse: 0", 8, "a whole number from 1"),
        ("network: host", 10, "`host` is not known; accepted: bridge, none"),
        ("network: brigde", 10, "did you mean `bridge`?"),
        (
            "image: isolatoin",
            8,
            "there is no image `isolatoin`; did you mean `isolation`? accepted: full, isolation",
        ),
        ("capabilities: [SYS_ADMIN]", 16, "accepted: IPC_LOCK, NET_BIND_SERVICE, SYS_PTRACE"),
        ("capabilities: [CAP_SYS_PTRACE]", 16, "did you mean `SYS_PTRACE`?"),
        ("capabilities: SYS_PTRACE", 15, "expected a list, such as [one, two]"),
        ("inherits: fats", 11, "there is no profile `fats`; did you mean `fast`?"),
        ("inherits: x", 11, "a circle: x -> x"),
        ("thresholds: {memory_nere: 0.5}", 14, "did you mean `memory_near`?"),
        ("thresholds: {memory_near: 90}", 27, "a number from 0.001 to 1"),
        ("thresholds: {cpu: 5}", 19, "did you mean `5s`?"),
        ("thresholds: 1", 13, "expected keys with values: cpu, disk_write, files_left, "),
        ("description: 2.0", 14, "is a number in YAML; expected a text: put it in quotes"),
        ("description: ''", 14, "not an empty one"),
        ("tmpfs: 1g", 8, "tmpfs (1g) is above memory (512m)"),
        ("memory: 64m", 9, "tmpfs (100m) is above memory (64m)"),
    ],
)
def test_in_a_profile(tmp_path: Path, keys: str, column: int, part: str) -> None:
    (line,) = _problems(tmp_path, f"profiles:\n  x:\n    {keys}\n")
    assert line.startswith(f"profiles.yaml:3:{column + 4}: profiles.x")
    assert part in line


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("versoin: 1", "1:1", "unknown key `versoin`; did you mean `version`?"),
        ("version: 2", "1:10", "a whole number from 1 to 1"),
        ("default_profile: fats", "1:18", "did you mean `fast`?"),
        ("profiles: 3", "1:11", "expected keys with values, such as {name: …}"),
        ("profiles: {-x: {}}", "1:12", "is not a name"),
        ("profiles: {a b: {}}", "1:12", "is not a name"),
        ("profiles: {a.b: {}}", "1:12", "is not a name"),
        ("profiles: {fast: }", "1:17", "expected keys with values: capabilities"),
        ("profiles: {a: {}, a: {}}", "1:19", "already given in line 1"),
        ("rules: {match: x}", "1:8", "expected a list"),
        ("rules: [{match: /etc/**, profile: fast}]", "1:17", "absolute"),
        ("rules: [{match: 'C:/x', profile: fast}]", "1:17", "absolute"),
        ("rules: [{match: a/../../b, profile: fast}]", "1:17", "cannot contain `..`"),
        ("rules: [{match: 'a\\b', profile: fast}]", "1:17", "separated by `/`"),
        ("rules: [{match: a, profile: fats}]", "1:29", "did you mean `fast`?"),
        (
            "rules: [{suite: pytst, profile: fast}]",
            "1:17",
            "there is no suite `pytst`; did you mean `pytest`?",
        ),
        ("rules: [{profile: fast}]", "1:9", "no condition is given"),
        ("rules: [{match: a}]", "1:9", "changes nothing"),
        ("rules: [{match: a, exclusive: on}]", "1:31", "expected true or false; write `true`"),
        ("rules: [{match: a, exclusive: 1}]", "1:31", "expected true or false"),
        ("rules: [{match: a, retries: -1}]", "1:29", "a whole number from 0"),
        ("suites: [{name: a, match: [x], runner: pytst}]", "1:40", "did you mean `pytest`?"),
        ("suites: [{name: a, runner: pytest}]", "1:10", "the key `match` is missing"),
        ("suites: [{name: a, match: [], runner: pytest}]", "1:27", "at least one entry"),
        ("suites: [{name: a, match: x, runner: pytest}]", "1:27", "expected a list"),
        ("suites: [{name: a, match: [x, /y], runner: pytest}]", "1:31", "absolute"),
        ("suites: [{name: a, match: [x], runner: pytest, profile: slwo}]", "1:57", "did you mean `slow`?"),
        ("suites: [{name: a, match: [x], runner: shell, working_dir: ../..}]", "1:60", "outside the project"),
        ("suites: [{name: a, match: [x], runner: shell, working_dir: /etc}]", "1:60", "outside the project"),
        ("suites: [{name: a, match: [x], runner: command}]", "1:10", "needs a command"),
        ("suites: [{name: a, match: [x], runner: command, command: [make]}]", "1:58", "add `{test}`"),
        ("suites: [{name: a, match: [x], runner: shell, env: {ORCH_X: 1}}]", "1:53", "cannot be set"),
        ("suites: [{name: a, match: [x], runner: shell, env: {A-B: 1}}]", "1:53", "not a variable name"),
        ("images: {a: {}}", "1:10", "add dockerfile or reference"),
        ("images: {a: {reference: x, dockerfile: y}}", "1:10", "a reference is not built"),
        ("images: {a: {dockerfile: y, base: isolaton}}", "1:35", "did you mean `isolation`?"),
        ("run: {jobs: 1:30}", "1:13", "a whole number"),
        ("run: {timeout: 90}", "1:16", "did you mean `90s`?"),
        ("run: {violations: false}", "1:19", "accepted: fail, off, warn"),
        ("retention: {records: 6d}", "1:22", "at least 7d"),
        ("retention: {runs: 36h}", "1:19", "whole days"),
        ("database: resources", "1:11", "not a database"),
        ("seccomp: absent.json", "1:10", "cannot be used: No such file"),
        ("seccomp: profiles.yaml", "1:10", "it is not JSON"),
        ("seccomp: unconfined", "1:10", "cannot be used"),
        ("presets: {ci: --retries}", "1:15", "expected a list"),
    ],
)
def test_elsewhere(tmp_path: Path, text: str, place: str, part: str) -> None:
    (line,) = _problems(tmp_path, text + "\n")
    assert line.startswith(f"profiles.yaml:{place}: "), line
    assert part in line


def test_all_problems_are_reported_at_once_in_order(tmp_path: Path) -> None:
    lines = _problems(
        tmp_path,
        """\
profiles:
  fast: {memory: 128, image: isolaton}
  a: {inherits: b}
  b: {inherits: a}
  fast: {}
default_profile: fats
rules:
  - {match: "/x", profile: fats}
suites:
  - {name: one, match: [x], runner: pytest}
  - {name: one, match: [y], runner: shell, profile: nope, typo: 1}
unknown: 1
""",
    )
    places = [line.split(": ")[0].removeprefix("profiles.yaml:") for line in lines]
    assert places == [
        "2:18",
        "2:30",
        "4:17",
        "5:3",
        "6:18",
        "8:13",
        "8:28",
        "11:12",
        "11:53",
        "11:59",
        "12:1",
    ]


def test_an_index_is_that_of_the_file_also_after_an_invalid_entry(tmp_path: Path) -> None:
    lines = _problems(tmp_path, "rules:\n  - {match: /x, profile: fast}\n  - 3\n  - {match: a, profile: fats}\n")
    assert [line.split(": ")[1] for line in lines] == ["rules[0].match", "rules[1]", "rules[2].profile"]


def test_only_valid_names_are_suggested_also_those_of_invalid_profiles(tmp_path: Path) -> None:
    lines = _problems(tmp_path, "profiles: {own: 3, -x: {}, '': {}}\ndefault_profile: owm\n")
    assert len(lines) == 4
    assert lines[-1].endswith("did you mean `own`? accepted: fast, intensive, own, slow, standard")


def test_a_circle_is_reported_once_and_named(tmp_path: Path) -> None:
    (line,) = _problems(tmp_path, "profiles: {a: {inherits: b}, b: {inherits: c}, c: {inherits: a}}\n")
    assert "a circle: a -> b -> c -> a" in line


def test_a_circle_of_image_bases_is_reported_once(tmp_path: Path) -> None:
    (line,) = _problems(tmp_path, "images: {a: {dockerfile: x, base: b}, b: {dockerfile: y, base: a}}\n")
    assert "a circle: a -> b -> a" in line


def test_inherited_limits_that_do_not_fit_are_found(tmp_path: Path) -> None:
    (line,) = _problems(tmp_path, "profiles:\n  a: {inherits: intensive, memory: 100m}\n")
    assert line.startswith("profiles.yaml:2:36: profiles.a: tmpfs (500m) is above memory (100m)")


def test_a_working_folder_behind_a_link_that_leaves_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "link").symlink_to("/etc")
    (line,) = _problems(project, "suites: [{name: a, match: [x], runner: shell, working_dir: link}]\n")
    assert "outside the project" in line


def test_a_seccomp_profile_that_allows_everything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    (line,) = _problems(tmp_path, "seccomp: s.json\n")
    assert "it allows everything" in line


def test_a_flood_of_problems_is_cut(tmp_path: Path) -> None:
    lines = _problems(tmp_path, "".join(f"key{n}: 1\n" for n in range(500)))
    assert len(lines) == 51
    assert lines[-1] == "and 450 more"


def test_hostile_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (line,) = _problems(tmp_path, '"\\e[31m\\nforged: line": 1\n')
    assert line.isprintable()
