"""Format the settings of a Config as a user would write them in profiles.yaml, for `orch show-config`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from orchestrator.config.units import format_duration, format_size
from orchestrator.model.suites import Suite
from orchestrator.redaction import redact, redact_values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.model.profiles import ImageSpec, Profile

_OFF = "off"


def setting_texts(config: Config) -> Mapping[str, str]:
    """Return the text of each setting that has an origin, as in profiles.yaml; secrets are masked."""
    texts = {
        "default_profile": config.default_profile,
        "rules": _plain_json(config.rules),
        "suites": _plain_json(config.suites),
        "state_dir": _relative(config.state_dir, config.project_root),
        "seccomp": _relative(config.seccomp, config.project_root),
        "database": redact(config.database_url or ""),
    }
    for name, profile in config.profiles.items():
        texts |= {f"profiles.{name}.{key}": text for key, text in profile_texts(profile).items()}
    for name, image in config.images.items():
        texts[f"images.{name}"] = _image(image, config.project_root)
    for name, flags in config.presets.items():
        texts[f"presets.{name}"] = json.dumps([" ".join(map(redact, text.split(" "))) for text in flags])
    texts |= _run(config) | _retention(config)
    return {key: texts[key] for key in sorted(config.origins)}


def profile_texts(profile: Profile) -> Mapping[str, str]:
    """Return the text of each value of a profile by its key in profiles.yaml."""
    limits, thresholds = profile.limits, profile.thresholds
    return {
        "description": profile.description,
        "cpus": f"{limits.cpus:g}",
        "memory": format_size(limits.memory_bytes),
        "timeout": format_duration(limits.timeout_seconds),
        "tmpfs": format_size(limits.tmpfs_bytes),
        "tmpfs_inodes": str(limits.tmpfs_inodes),
        "outputs": format_size(limits.outputs_bytes),
        "shm": format_size(limits.shm_bytes),
        "pids": str(limits.pids),
        "nofile": str(limits.nofile),
        "log": format_size(limits.log_bytes),
        "network": profile.network.value,
        "image": profile.image,
        "capabilities": f"[{', '.join(profile.capabilities)}]",
        "grace": format_duration(profile.grace_seconds),
        "reuse": str(profile.reuse),
        "thresholds.memory_near": _or_off(thresholds.memory_near_ratio),
        "thresholds.time_near": _or_off(thresholds.time_near_ratio),
        "thresholds.pids_near": _or_off(thresholds.pids_near_ratio),
        "thresholds.cpu": _OFF if thresholds.cpu_seconds is None else format_duration(thresholds.cpu_seconds),
        "thresholds.throttled": _or_off(thresholds.throttled_ratio),
        "thresholds.log": _size_or_off(thresholds.log_bytes),
        "thresholds.memory_growth": _or_off(thresholds.memory_growth_ratio),
        "thresholds.oversized": _or_off(thresholds.oversized_ratio),
        "thresholds.tmpfs_near": _or_off(thresholds.tmpfs_near_ratio),
        "thresholds.open_files_growth": _or_off(thresholds.open_files_growth),
        "thresholds.threads_growth": _or_off(thresholds.threads_growth),
        "thresholds.files_left": _or_off(thresholds.files_left),
        "thresholds.files_left_size": _size_or_off(thresholds.files_left_bytes),
        "thresholds.disk_write": _size_or_off(thresholds.disk_write_bytes),
    }


def _or_off(number: float | None) -> str:
    return _OFF if number is None else f"{number:g}"


def _size_or_off(size_bytes: int | None) -> str:
    return _OFF if size_bytes is None else format_size(size_bytes)


def _run(config: Config) -> dict[str, str]:
    texts = {}
    for field in dataclasses.fields(config.run):
        value = getattr(config.run, field.name)
        texts[f"run.{field.name}"] = str(value).lower() if isinstance(value, bool) else _or_word(value, _OFF)
    timeout = config.run.timeout_seconds
    texts["run.timeout"] = _OFF if timeout is None else format_duration(timeout)
    texts["run.jobs"] = _or_word(config.run.jobs, "auto")
    return texts


def _or_word(value: object, word: str) -> str:
    return word if value is None else str(value)


def _retention(config: Config) -> dict[str, str]:
    kept = config.retention
    return {
        "retention.records": f"{kept.records_days}d",
        "retention.rollups": f"{kept.rollups_days}d",
        "retention.samples": f"{kept.samples_days}d",
        "retention.samples_full": f"{kept.samples_full_days}d",
        "retention.runs": f"{kept.runs_days}d",
        "retention.runs_count": str(kept.runs_count),
        "retention.runs_size": format_size(kept.runs_bytes),
    }


def _image(image: ImageSpec, root: Path) -> str:
    if image.dockerfile is None:
        return json.dumps({"reference": image.reference})
    parts = {
        "dockerfile": _relative(image.dockerfile, root),
        "context": _relative(image.context, root),
        "build_args": redact_values(image.build_args) or None,
        "base": image.base,
    }
    return json.dumps({key: value for key, value in parts.items() if value is not None})


def _relative(path: Path | None, root: Path) -> str:
    if path is None:
        return ""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _plain_json(items: tuple[object, ...]) -> str:
    """Return dataclasses as a JSON list, without fields that were not given."""

    def plain(item: object) -> dict[str, object]:
        assert dataclasses.is_dataclass(item)  # noqa: S101 - rules and suites are; tells the type checker
        assert not isinstance(item, type)  # noqa: S101 - the same
        values = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
        if isinstance(item, Suite):
            values["env"] = redact_values(item.env)
        return {key: value for key, value in values.items() if value not in (None, (), {}, False, "")}

    return json.dumps([plain(item) for item in items])
