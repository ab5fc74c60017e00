from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.config.loader import load_config
from orchestrator.config.settings import Config, Layer
from orchestrator.errors import ConfigError, ExitCode
from orchestrator.model.profiles import Network, Thresholds
from orchestrator.model.suites import Runner

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


def _load(folder: Path, text: str | None = None, *, env: dict[str, str] | None = None, **overrides: str) -> Config:
    if text is not None:
        (folder / "profiles.yaml").write_text(text, encoding="utf-8")
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(path=None, start=folder, env=env or {}, overrides=dotted)


def _problems(folder: Path, text: str, *, env: dict[str, str] | None = None, **overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, env=env, **overrides)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value.message.splitlines()


def _origin(config: Config, setting: str) -> str:
    return str(config.origins[setting])


# ---------------------------------------------------------------- what holds without a file


def test_the_four_shipped_profiles_are_those_of_the_design(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    config = _load(tmp_path)
    table = {
        name: (
            p.limits.cpus,
            p.limits.memory_bytes // MIB,
            p.limits.timeout_seconds,
            p.limits.tmpfs_bytes // MIB,
            p.network,
            p.image,
            p.limits.pids,
            p.limits.nofile,
            p.limits.outputs_bytes // MIB,
            p.capabilities,
        )
        for name, p in config.profiles.items()
    }
    none, bridge = Network.NONE, Network.BRIDGE
    assert table == {
        "fast": (1.0, 128, 2.0, 100, none, "isolation", 64, 1024, 64, ()),
        "standard": (2.0, 512, 10.0, 100, none, "isolation", 128, 1024, 64, ()),
        "slow": (2.0, 1024, 60.0, 100, none, "isolation", 256, 4096, 64, ()),
        "intensive": (4.0, 4096, 300.0, 500, bridge, "full", 1024, 65536, 256, ("SYS_PTRACE",)),
    }
    for profile in config.profiles.values():
        assert (profile.limits.shm_bytes, profile.limits.log_bytes) == (64 * MIB, 10 * MIB)
        expected = 1000 if profile.name in ("fast", "standard") else 1
        assert (profile.limits.tmpfs_inodes, profile.grace_seconds, profile.reuse) == (65536, 2.0, expected)
        assert profile.auto_reuse is (profile.name == "standard")
        assert profile.thresholds == Thresholds()


def test_a_project_without_a_file_has_everything_it_needs(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    config = _load(tmp_path / "deep" / "er")
    assert (config.project_root, config.path, config.state_dir) == (tmp_path, None, tmp_path / ".orch")
    assert [(s.name, s.match, s.runner) for s in config.suites] == [
        ("pytest", ("test/**/test_*.py", "tests/**/test_*.py"), Runner.PYTEST),
        ("shell", ("test/**/*.test.sh", "tests/**/*.test.sh"), Runner.SHELL),
    ]
    assert config.images["isolation"].dockerfile == ROOT / "docker" / "Dockerfile.test-isolation"
    assert config.images["full"].context == ROOT / "docker"
    assert (config.default_profile, config.rules, config.database_url) == ("standard", (), None)
    assert {origin.layer for origin in config.origins.values()} == {Layer.DEFAULT}


def test_without_a_file_and_without_git_the_root_is_the_folder(tmp_path: Path) -> None:
    assert _load(tmp_path).project_root in (tmp_path, *tmp_path.parents)


def test_the_projects_own_file_is_valid() -> None:
    config = load_config(path=ROOT / "profiles.yaml", start=ROOT, env={})
    assert list(config.profiles) == ["fast", "standard", "slow", "intensive"]
    assert [s.match for s in config.suites] == [("test/**/test_*.py",), ("test/**/*.test.sh",)]
    assert config.images["full"].context == ROOT


def test_yaml_is_imported_only_for_a_file(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    program = (
        "import sys; from pathlib import Path; from orchestrator.config.loader import load_config;"
        "load_config(path=None, start=Path.cwd(), env={'ORCH_JOBS': '2'}); print('yaml' in sys.modules)"
    )
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "False\n"
    (tmp_path / "profiles.yaml").write_text("version: 1\n")
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "True\n"


# ---------------------------------------------------------------- finding the file


def test_the_file_is_found_upwards_and_errors_name_it_from_where_the_user_is(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "profiles.yaml").write_text("version: 1\nx: 1\n")
    with pytest.raises(ConfigError, match=r"^\.\./\.\./profiles\.yaml:2:1: unknown key `x`"):
        load_config(path=None, start=tmp_path / "a" / "b", env={})


def test_the_search_ends_at_the_repositorys_root(tmp_path: Path) -> None:
    (tmp_path / "profiles.yaml").write_text("default_profile: slow\n")
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    config = load_config(path=None, start=tmp_path / "repository", env={})
    assert (config.default_profile, config.path) == ("standard", None)


def test_a_named_file_and_orch_config(tmp_path: Path) -> None:
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "other.yaml").write_text("default_profile: fast\n")
    by_name = load_config(path=Path("ci/other.yaml"), start=tmp_path, env={})
    by_variable = load_config(path=None, start=tmp_path, env={"ORCH_CONFIG": "ci/other.yaml"})
    assert by_name.path == by_variable.path == tmp_path / "ci" / "other.yaml"
    assert by_name.default_profile == by_variable.default_profile == "fast"
    assert by_name.project_root == tmp_path / "ci"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^absent\.yaml:1:1: cannot be read: No such file"),
        (b"a: \xff\n", r"^absent\.yaml:1:4: the byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfx: 1\n", r"^absent\.yaml:1:1: unknown key `x`"),
        (b"#" * (MIB + 1), "larger than 1 MiB"),
        (b"- a\n", r"^absent\.yaml:1:1: expected keys with values"),
        (b"just text", r"^absent\.yaml:1:1: expected keys with values"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "absent.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path=Path("absent.yaml"), start=tmp_path, env={})


def test_a_folder_or_a_device_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a regular file"):
            load_config(path=path, start=tmp_path, env={})


# ---------------------------------------------------------------- what a file says


def test_a_file_that_defines_one_profile_keeps_the_others(tmp_path: Path) -> None:
    config = _load(tmp_path, "profiles:\n  fast: {memory: 64m, tmpfs: 32m}\n")
    assert config.profiles["fast"].limits.memory_bytes == 64 * MIB
    assert config.profiles["fast"].limits.timeout_seconds == 2.0
    assert list(config.profiles) == ["fast", "standard", "slow", "intensive"]


def test_every_key_arrives(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "s.json").write_text('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}')
    config = _load(
        tmp_path,
        """
version: 1
default_profile: own
profiles:
  own: {description: mine, cpus: 0.5, memory: 1.5g, timeout: 1m30s, tmpfs: 1g, tmpfs_inodes: 1000,
        outputs: 1m, shm: 2m, pids: 7, nofile: 20, log: 1k, network: bridge, image: mine,
        capabilities: [NET_BIND_SERVICE], grace: 0s, reuse: 9,
        thresholds: {memory_near: 0.5, time_near: off, cpu: 3s, log: 5k}}
rules:
  - {match: "./a/**", marker: slow, suite: spec, profile: own, retries: 2, timeout: 5s, memory: 1g, cpus: 3,
     exclusive: true, group: db}
suites:
  - {name: spec, match: ["t/*.spl"], exclude: ["t/x*"], runner: command, command: [simple, "{test}"],
     results: tap, granularity: case, env: {A: 1, B: on, C: }, pass_env: [HOME],
     profile: fast, working_dir: src}
images:
  base: {reference: "alpine:3"}
  mine: {dockerfile: d/File, context: ., build_args: {X: 1.0}, base: base}
run: {jobs: 3, retries: 1, flaky_result: fail, max_fail: 5, timeout: 1h, violations: off, strict_limits: true,
      no_tests: warn, success_output: final, failure_output: immediate}
retention: {records: 7d, rollups: 100d, runs: 2d, runs_count: 3, runs_size: 5m}
presets: {ci: [--retries, "2"]}
seccomp: s.json
state_dir: out/orch
database: sqlite:///x.db
""",
    )
    own = config.profiles["own"]
    limits = own.limits
    assert (own.description, own.network, own.image, own.capabilities) == (
        "mine", Network.BRIDGE, "mine", ("NET_BIND_SERVICE",),
    )  # fmt: skip
    assert (own.grace_seconds, own.reuse) == (0.0, 9)
    assert own.thresholds == Thresholds(
        memory_near_ratio=0.5, time_near_ratio=None, cpu_seconds=3.0, log_bytes=5 << 10
    )
    assert (limits.cpus, limits.memory_bytes, limits.timeout_seconds) == (0.5, 1536 * MIB, 90.0)
    assert (limits.tmpfs_bytes, limits.tmpfs_inodes, limits.outputs_bytes) == (1024 * MIB, 1000, MIB)
    assert (limits.shm_bytes, limits.pids, limits.nofile, limits.log_bytes) == (2 * MIB, 7, 20, 1024)
    (rule,) = config.rules
    assert (rule.match, rule.marker, rule.suite, rule.profile) == ("a/**", "slow", "spec", "own")
    assert (rule.retries, rule.timeout_seconds, rule.memory_bytes, rule.cpus) == (2, 5.0, 1024 * MIB, 3.0)
    assert (rule.exclusive, rule.group, rule.place) == (True, "db", "profiles.yaml:10")
    (suite,) = config.suites
    assert (suite.match, suite.exclude, suite.command) == (("t/*.spl",), ("t/x*",), ("simple", "{test}"))
    assert (dict(suite.env), suite.pass_env) == ({"A": "1", "B": "on", "C": ""}, ("HOME",))
    assert (suite.results, suite.granularity, suite.profile, suite.working_dir) == (
        "tap",
        "case",
        "fast",
        "src",
    )
    mine = config.images["mine"]
    assert (mine.dockerfile, mine.context) == (tmp_path / "d" / "File", tmp_path)
    assert (dict(mine.build_args), mine.base, config.images["base"].reference) == (
        {"X": "1.0"},
        "base",
        "alpine:3",
    )
    run = config.run
    assert (run.jobs, run.retries, run.flaky_result, run.max_fail, run.timeout_seconds) == (
        3,
        1,
        "fail",
        5,
        3600.0,
    )
    assert (run.violations, run.strict_limits, run.no_tests) == ("off", True, "warn")
    assert (run.success_output, run.failure_output) == ("final", "immediate")
    kept = config.retention
    assert (kept.records_days, kept.rollups_days, kept.runs_days) == (7, 100, 2)
    assert (kept.runs_count, kept.runs_bytes) == (3, 5 * MIB)
    assert (config.presets["ci"], config.seccomp) == (("--retries", "2"), tmp_path / "s.json")
    assert (config.state_dir, config.database_url) == (tmp_path / "out" / "orch", "sqlite:///x.db")
    assert config.default_profile == "own"


def test_the_example_of_the_manual_is_valid(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        """
version: 1
profiles:
  fast: {cpus: 1, memory: 128m, timeout: 2s, tmpfs: 100m, network: none, image: isolation, reuse: 100}
rules:
  - {match: "test/unit/**", profile: fast}
  - {marker: slow, profile: slow}          # pytest.mark.slow
suites:
  - {name: unit, match: ["test/**/test_*.py"], runner: pytest}
  - {name: shell, match: ["test/**/*.test.sh"], runner: shell}
  - {name: spec, match: ["test/**/*.spl"], runner: command, command: ["simple", "test", "{test}"],
     results: exit-code}
""",
    )
    assert config.profiles["fast"].reuse == 100
    assert [rule.place for rule in config.rules] == ["profiles.yaml:6", "profiles.yaml:7"]
    assert [suite.name for suite in config.suites] == ["unit", "shell", "spec"]


def test_empty_sections_and_empty_files_are_as_good_as_none(tmp_path: Path) -> None:
    bare = _load(tmp_path)
    assert _load(tmp_path, "").digest == bare.digest
    assert _load(tmp_path, "rules:\n#  - {}\nsuites:\nprofiles:\nrun:\n").digest == bare.digest


def test_a_new_profile_takes_what_it_leaves_out_from_standard(tmp_path: Path) -> None:
    config = _load(tmp_path, "profiles: {mine: {cpus: 0.5}, bare: {}}\n")
    assert config.profiles["mine"].limits.memory_bytes == 512 * MIB
    assert config.profiles["mine"].description == ""
    assert config.profiles["bare"].limits == config.profiles["standard"].limits


def test_words_that_yaml_1_1_would_turn_into_values_stay_words(tmp_path: Path) -> None:
    config = _load(
        tmp_path, "profiles: {on: {inherits: no}, no: {description: yes}}\npresets: {y: [off, '1:30']}\n"
    )
    assert {"on", "no"} <= set(config.profiles)
    assert (config.profiles["no"].description, config.presets["y"]) == ("yes", ("off", "1:30"))


# ---------------------------------------------------------------- inherits, precedence, origins


def test_inherits_goes_down_the_chain_and_says_so(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        "profiles:\n"
        "  a: {inherits: b, cpus: 3}\n"
        "  b: {inherits: slow, memory: 2g, description: b's own, thresholds: {cpu: 9s}}\n"
        "  slow: {timeout: 70s}\n",
    )
    a = config.profiles["a"]
    assert (a.limits.cpus, a.limits.memory_bytes, a.limits.timeout_seconds) == (3.0, 2048 * MIB, 70.0)
    assert (a.limits.pids, a.thresholds.cpu_seconds, a.description) == (256, 9.0, "")
    assert _origin(config, "profiles.a.cpus") == "file (profiles.yaml:2:26)"
    assert _origin(config, "profiles.a.memory") == "inherits (profiles.yaml:3:31 (profile b))"
    assert _origin(config, "profiles.a.thresholds.cpu").startswith("inherits (profiles.yaml:3:")
    assert _origin(config, "profiles.a.timeout") == "inherits (profiles.yaml:4:19 (profile slow))"
    assert _origin(config, "profiles.a.pids") == "inherits (built-in default (profile slow))"
    assert _origin(config, "profiles.slow.pids") == "built-in default"


def test_a_built_in_profile_that_inherits_leaves_its_own_defaults(tmp_path: Path) -> None:
    fast = _load(tmp_path, "profiles: {fast: {inherits: intensive}}\n").profiles["fast"]
    assert (fast.limits.memory_bytes, fast.image) == (4096 * MIB, "full")


def test_each_layer_beats_the_weaker_ones(tmp_path: Path) -> None:
    text = "run: {jobs: 2, retries: 2, violations: fail}\n"
    config = _load(tmp_path, text, env={"ORCH_JOBS": "3", "ORCH_RETRIES": "3"}, run__jobs="4")
    assert (config.run.jobs, config.run.retries, config.run.violations, config.run.no_tests) == (
        4,
        3,
        "fail",
        "fail",
    )
    assert _origin(config, "run.jobs") == "command line"
    assert _origin(config, "run.retries") == "environment (ORCH_RETRIES)"
    assert _origin(config, "run.violations") == "file (profiles.yaml:1:40)"
    assert _origin(config, "run.no_tests") == "built-in default"


def test_the_environment(tmp_path: Path) -> None:
    env = {
        "ORCH_TIMEOUT": "5m", "ORCH_DB": "sqlite:///y.db", "ORCH_VIOLATIONS": "off", "ORCH_NO_TESTS": "pass",
        "ORCH_STRICT_LIMITS": "1", "ORCH_MAX_FAIL": "", "ORCH_STATE_DIR": "123",
        "ORCH_DEFAULT_PROFILE": "slow", "ORCH_PROFILE": "no-setting", "ORCH_RUN_ID": "x",
    }  # fmt: skip
    config = _load(tmp_path, "run: {max_fail: 1}\n", env=env)
    run = config.run
    assert (run.timeout_seconds, run.violations, run.no_tests) == (300.0, "off", "pass")
    assert (run.strict_limits, run.max_fail, config.default_profile) == (True, 1, "slow")
    assert (config.database_url, config.state_dir) == ("sqlite:///y.db", tmp_path / "123")
    assert _load(tmp_path, env={"ORCH_JOBS": "auto"}).run.jobs is None


def test_a_profiles_field_can_be_given_on_the_command_line(tmp_path: Path) -> None:
    config = _load(tmp_path, "profiles: {fast: {cpus: 2}}\n", profiles__fast__memory="1g")
    assert config.profiles["fast"].limits.memory_bytes == 1024 * MIB
    assert config.origins["profiles.fast.memory"].layer is Layer.COMMAND_LINE
    assert config.profiles["fast"].limits.cpus == 2.0


def test_an_error_in_a_stronger_layer_names_it(tmp_path: Path) -> None:
    env = {"ORCH_JOBS": "x", "ORCH_DB": "secret"}
    lines = _problems(tmp_path, "run: {jobs: 0}\n", env=env, run__jbos="3", profiles__fats__memory="1g")
    assert [line.split(":")[0] for line in lines] == [
        "ORCH_DB", "ORCH_JOBS", "command line", "command line", "profiles.yaml",
    ]  # fmt: skip
    assert "secret" not in "".join(lines)
    assert any("did you mean `jobs`?" in line for line in lines)
    assert any("there is no profile `fats`; did you mean `fast`?" in line for line in lines)


def test_every_setting_of_a_profile_has_an_origin(tmp_path: Path) -> None:
    keys = {
        key.removeprefix("profiles.fast.") for key in _load(tmp_path).origins if key.startswith("profiles.fast.")
    }
    assert keys >= {
        "cpus",
        "memory",
        "timeout",
        "tmpfs",
        "tmpfs_inodes",
        "outputs",
        "shm",
        "pids",
        "nofile",
        "log",
    }
    assert keys >= {"network", "image", "capabilities", "grace", "reuse", "thresholds.cpu", "thresholds.log"}


def test_the_digest_follows_what_decides_how_tests_run(tmp_path: Path) -> None:
    first = _load(tmp_path, "profiles: {fast: {memory: 1g}}\n").digest
    assert _load(tmp_path, "# moved\n\nprofiles:\n  fast:\n    memory: 1024m\n").digest == first
    assert _load(tmp_path, env={"ORCH_DB": "sqlite:///z.db"}).digest == first
    assert _load(tmp_path, profiles__fast__memory="2g").digest != first
    assert (
        _load(tmp_path, "profiles: {fast: {memory: 1g}}\nrules: [{match: '**', profile: slow}]\n").digest != first
    )


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.recursive(
        st.sampled_from(
            ["1", "512m", "2s", "on", "fast", "''", "~", ".nan", "pytest", "a/**", "{}", "[]", "*a", "&a x"]
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
            st.dictionaries(
                st.sampled_from(
                    [
                        "version",
                        "profiles",
                        "rules",
                        "suites",
                        "images",
                        "run",
                        "fast",
                        "memory",
                        "inherits",
                        "thresholds",
                        "match",
                        "name",
                        "runner",
                        "profile",
                        "jobs",
                        "presets",
                        "base",
                        "env",
                    ]
                ),
                inner,
                max_size=4,
            ).map(lambda d: "{" + ", ".join(f"{key}: {value}" for key, value in d.items()) + "}"),
        ),
        max_leaves=12,
    )
)
def test_any_file_gives_a_config_or_a_config_error_with_places(tmp_path: Path, text: str) -> None:
    (tmp_path / "profiles.yaml").write_text(text)
    try:
        load_config(path=None, start=tmp_path, env={})
        lines = []
    except ConfigError as error:
        lines = error.message.splitlines()
    assert [line for line in lines if not re.match(r"profiles\.yaml:\d+:\d+: \S", line)] == []
