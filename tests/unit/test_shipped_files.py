"""Files that are shipped beside the code pass their linters and do not contain what they must not."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
SCRIPTS = [ROOT / "scripts" / "setup-engine", ROOT / "scripts" / "docker-test.sh"]
EXAMPLES = sorted((ROOT / "examples" / "quickstart").rglob("*.sh"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint(path):
    done = subprocess.run([BIN / "hadolint", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ignores = [line for line in path.read_text().splitlines() if "hadolint ignore=" in line]
    assert all(re.search(r"ignore=[A-Z0-9,]+ # \S+", line) for line in ignores), "each with its reason"


@pytest.mark.parametrize("path", [*SCRIPTS, *EXAMPLES], ids=lambda path: path.name)
def test_shellcheck(path):
    done = subprocess.run([BIN / "shellcheck", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert path.stat().st_mode & 0o111


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_works_with_every_builder_and_context(path):
    text = path.read_text()
    instructions = [line for line in text.splitlines() if not line.startswith("#")]
    assert not any(re.match(r"(?i)\s*RUN\s+--|.*<<-?['\"]?EOF", line) for line in instructions), "BuildKit only"
    copies = [line for line in instructions if re.match(r"(?i)\s*(COPY|ADD)\s", line)]
    assert all("--from=" in line for line in copies), "the context may be docker/ or the repository"
    assert not re.search(r"x86_64-linux|aarch64-linux|/amd64|/arm64", text), "one architecture only"


def test_no_host_names_in_shipped_files():
    for path in [*DOCKERFILES, *SCRIPTS, ROOT / "docker-compose.test.yml", ROOT / "docker" / "seccomp.json"]:
        assert not re.search(r"https?://", path.read_text()), path


def strings_of(path):
    """Return the string constants of a module that are no docstrings: what a user may see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [node.value for node in constants if isinstance(node.value, str)]


def test_no_message_names_a_file_that_an_installed_orch_lacks():
    left_behind = sorted(
        path.relative_to(ROOT).as_posix()
        for folder in ("scripts", "docs", "examples", "bench", "requirements")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    )
    assert "scripts/setup-engine" in left_behind
    named = [
        f"{module.relative_to(ROOT)}: {name}"
        for module in sorted((ROOT / "orchestrator").rglob("*.py"))
        for text in strings_of(module)
        for name in left_behind
        if name in text
    ]
    assert named == []


def test_docker_test_script_tells_its_verbs():
    script = ROOT / "scripts" / "docker-test.sh"
    done = subprocess.run([script, "help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for verb in ("build", "run", "run-full", "shell", "compose", "clean", "help"):
        assert re.search(rf"^  {verb} ", done.stdout, re.MULTILINE)
    assert subprocess.run([script], capture_output=True, text=True, check=False).stdout == done.stdout
    wrong = subprocess.run([script, "biuld"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "unknown verb: biuld" in wrong.stderr


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        (["build", "--offline-base"], "build --offline-base"),
        (["run", "test/a b", "-j", "2"], "run test/a b -j 2"),
        (["run-full", "test"], "run --profile intensive test"),
        (["shell"], "shell"),
        (["clean", "--dry-run"], "clean --dry-run"),
    ],
)
def test_docker_test_script_hands_over_to_orch(verb, expected, tmp_path):
    # a copy of the script in a checkout whose orch says what it was called with
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    copy = tmp_path / "scripts" / "docker-test.sh"
    copy.write_bytes((ROOT / "scripts" / "docker-test.sh").read_bytes())
    orch = tmp_path / ".venv" / "bin" / "orch"
    orch.write_text('#!/bin/sh\necho "$#: $*"\nexit 36\n')
    orch.chmod(0o755)
    done = subprocess.run(["sh", copy, *verb], capture_output=True, text=True, check=False)
    words = {"run-full": 1}.get(verb[0], 0) * 2 + len(verb)
    assert done.stdout == f"{words}: {expected}\n"
    assert done.returncode == 36


def test_the_seccomp_profile_is_an_allowlist_without_contradictions():
    profile = json.loads((ROOT / "docker" / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == 38
    assert {entry["architecture"] for entry in profile["archMap"]} == {
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_AARCH64",
    }
    assert all(entry["subArchitectures"] == [] for entry in profile["archMap"]), "no 32-bit calls"
    always: dict[str, str] = {}
    for rule in profile["syscalls"]:
        assert rule["names"] == sorted(set(rule["names"]))
        if "args" in rule or "includes" in rule or "excludes" in rule:
            continue
        for name in rule["names"]:
            assert name not in always, f"{name} is named twice"
            always[name] = rule["action"]
    conditional = [r for r in profile["syscalls"] if "args" in r or "includes" in r or "excludes" in r]
    for rule in conditional:
        assert not set(rule["names"]) & set(always), "a rule without condition would make the condition void"
    allowed = {name for name, action in always.items() if action == "SCMP_ACT_ALLOW"}
    dangerous = "bpf keyctl mount setns io_uring_setup clone3 userfaultfd perf_event_open open_by_handle_at ptrace"
    assert not allowed & set(dangerous.split())
    debuggers = [r for r in conditional if "ptrace" in r["names"]]
    assert [(r["action"], r.get("includes"), r.get("excludes")) for r in debuggers] == [
        ("SCMP_ACT_ALLOW", {"caps": ["CAP_SYS_PTRACE"]}, None),
        ("SCMP_ACT_ERRNO", None, {"caps": ["CAP_SYS_PTRACE"]}),
    ]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"python3": 11, "python3.14": 14}, "python3"),
        ({"python3": 9, "python3.9": 9, "python3.11": 11, "python3.20": 20}, "python3.20"),
        ({"python3": 10, "python3.10": 10, "python3.13": None, "python3.12": 12}, "python3.12"),
        ({"python3": 10}, "needs Python 3.11 or later"),
        ({}, "needs Python 3.11 or later"),
    ],
)
def test_any_python_from_3_11_on_is_found(versions, expected, tmp_path):
    """Each program reports the given version; None: it does not start, such as a shim of pyenv."""
    for name, minor in versions.items():
        program = tmp_path / name
        check = f"exec {sys.executable} -c 'import sys; sys.version_info = (3, {minor}); '\"$2\"\n"
        program.write_text("#!/bin/sh\n" + ("exit 127\n" if minor is None else check))
        program.chmod(0o755)
    for tool in ("sh", "sort", "test", "printf"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        ["/bin/sh", "-c", ". ./lib.sh; find_python"],
        cwd=ROOT / "scripts",
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in (done.stdout or done.stderr)
    assert (done.returncode == 0) is not expected.startswith("needs")
