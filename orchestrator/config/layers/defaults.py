"""The built-in layer of settings: four profiles, two images, two suites and the defaults of all other sections.

The values are texts as in profiles.yaml, and are validated like a project's own file.
"""

from __future__ import annotations

BASE_PROFILE = "standard"
"""The profile that completes a new profile without `inherits`."""

_COMMON = {
    "tmpfs_inodes": "65536",
    "outputs": "64m",
    "shm": "64m",
    "log": "10m",
    "grace": "2s",
    "reuse": "1",
    "capabilities": (),
    "thresholds": {
        "memory_near": "0.9",
        "time_near": "0.9",
        "pids_near": "0.9",
        "cpu": "off",
        "throttled": "0.25",
        "log": "off",
        "memory_growth": "0.25",
        "oversized": "0.5",
        "tmpfs_near": "0.9",
        "open_files_growth": "20",
        "threads_growth": "8",
        "files_left": "16",
        "files_left_size": "16m",
        "disk_write": "16m",
    },
}


def _profile(description: str, **own: object) -> dict[str, object]:
    return {
        "description": description,
        "network": "none",
        "image": "isolation",
        "tmpfs": "100m",
        **_COMMON,
        **own,
    }


DEFAULTS: dict[str, object] = {
    "default_profile": BASE_PROFILE,
    "profiles": {
        "fast": _profile(
            "unit tests", cpus="1.0", memory="128m", timeout="2s", pids="64", nofile="1024", reuse="1000"
        ),
        "standard": _profile(
            "the default suite", cpus="2.0", memory="512m", timeout="10s", pids="128", nofile="1024"
        ),
        "slow": _profile("integration", cpus="2.0", memory="1g", timeout="60s", pids="256", nofile="4096"),
        "intensive": _profile(
            "QEMU, compilation, databases",
            cpus="4.0",
            memory="4g",
            timeout="300s",
            tmpfs="500m",
            outputs="256m",
            pids="1024",
            nofile="65536",
            network="bridge",
            image="full",
            capabilities=("SYS_PTRACE",),
        ),
    },
    "rules": (),
    "suites": (
        {"name": "pytest", "match": ("test/**/test_*.py", "tests/**/test_*.py"), "runner": "pytest"},
        {"name": "shell", "match": ("test/**/*.test.sh", "tests/**/*.test.sh"), "runner": "shell"},
    ),
    "images": {
        "isolation": {"dockerfile": "shipped:Dockerfile.test-isolation"},
        "full": {"dockerfile": "shipped:Dockerfile.test-full"},
    },
    "run": {
        "jobs": "auto",
        "retries": "0",
        "flaky_result": "pass",
        "max_fail": "off",
        "timeout": "off",
        "violations": "warn",
        "strict_limits": "false",
        "no_tests": "fail",
        "success_output": "never",
        "failure_output": "final",
    },
    "retention": {
        "records": "400d",
        "rollups": "1200d",
        "samples": "90d",
        "samples_full": "7d",
        "runs": "30d",
        "runs_count": "100",
        "runs_size": "1g",
    },
    "presets": {
        "ci": ("--retries", "1", "--show-progress", "plain", "--failure-output", "immediate"),
    },
    "state_dir": ".orch",
}
