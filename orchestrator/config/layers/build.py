"""Build the frozen Config, with the types of `model`, from checked settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from orchestrator.config.schema.parts import Part
from orchestrator.config.settings import Config, Origin, Retention, RunSettings
from orchestrator.config.shipped import docker_folder
from orchestrator.model.profiles import ImageSpec, Limits, Network, Profile, Rule, Thresholds
from orchestrator.model.suites import Granularity, Preload, ResultsFormat, Runner, Suite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.config.schema.document import ImagePart, RulePart, SuitePart
    from orchestrator.config.settings import Settings

_SHIPPED = "shipped:"
_NOT_IN_DIGEST = ("database", "state_dir", "retention.", "presets.")


class _Collections(TypedDict):
    profiles: Mapping[str, Profile]
    rules: tuple[Rule, ...]
    suites: tuple[Suite, ...]
    images: Mapping[str, ImageSpec]
    presets: Mapping[str, tuple[str, ...]]


def build_config(settings: Settings, *, root: Path, path: Path | None, shorten: Mapping[str, str]) -> Config:
    """Return the Config of checked settings; `shorten` maps file names to the names that messages show."""
    values: dict[str, Any] = {key: setting.value for key, setting in settings.items()}
    collections: _Collections = {
        "profiles": {name: _profile(name, values) for name in _names(values, "profiles")},
        "rules": tuple(_rule(rule, shorten) for rule in values["rules"]),
        "suites": tuple(_suite(suite) for suite in values["suites"]),
        "images": {name: _image(name, values[f"images.{name}"], root) for name in _names(values, "images")},
        "presets": {name: values[f"presets.{name}"] for name in _names(values, "presets")},
    }
    return Config(
        project_root=root,
        path=path,
        digest=_digest(settings),
        default_profile=values["default_profile"],
        run=_run(values),
        retention=_retention(values),
        seccomp=(root / values["seccomp"]).resolve() if values.get("seccomp") else None,
        state_dir=root / values["state_dir"],
        database_url=values.get("database"),
        origins=_origins(settings, shorten),
        **collections,
    )


def _digest(settings: Settings) -> str:
    kept = {key: s.value for key, s in settings.items() if not key.startswith(_NOT_IN_DIGEST)}
    text = json.dumps(kept, sort_keys=True, default=_json_form)
    return hashlib.sha256(text.encode()).hexdigest()


def _json_form(value: object) -> object:
    if isinstance(value, Part):
        return value.given
    raise TypeError(f"no JSON form of {type(value)}")


def _origins(settings: Settings, shorten: Mapping[str, str]) -> Mapping[str, Origin]:
    # `inherits` has done its work: the settings it gave name it as their layer.
    kept = [key for key in sorted(settings) if not key.endswith(".inherits")]
    return {key: settings[key].origin(shorten) for key in kept}


def _names(values: Mapping[str, Any], section: str) -> list[str]:
    return list(dict.fromkeys(key.split(".")[1] for key in values if key.startswith(section + ".")))


def _profile(name: str, values: Mapping[str, Any]) -> Profile:
    prefix = f"profiles.{name}."
    own = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
    limits = Limits(
        cpus=own["cpus"],
        memory_bytes=own["memory"],
        timeout_seconds=own["timeout"],
        tmpfs_bytes=own["tmpfs"],
        tmpfs_inodes=own["tmpfs_inodes"],
        outputs_bytes=own["outputs"],
        shm_bytes=own["shm"],
        pids=own["pids"],
        nofile=own["nofile"],
        log_bytes=own["log"],
    )
    thresholds = Thresholds(
        memory_near_ratio=own["thresholds.memory_near"],
        time_near_ratio=own["thresholds.time_near"],
        pids_near_ratio=own["thresholds.pids_near"],
        cpu_seconds=own["thresholds.cpu"],
        throttled_ratio=own["thresholds.throttled"],
        log_bytes=own["thresholds.log"],
        memory_growth_ratio=own["thresholds.memory_growth"],
        oversized_ratio=own["thresholds.oversized"],
        tmpfs_near_ratio=own["thresholds.tmpfs_near"],
        open_files_growth=own["thresholds.open_files_growth"],
        threads_growth=own["thresholds.threads_growth"],
        files_left=own["thresholds.files_left"],
        files_left_bytes=own["thresholds.files_left_size"],
        disk_write_bytes=own["thresholds.disk_write"],
    )
    return Profile(
        name=name,
        description=own.get("description", ""),
        limits=limits,
        network=Network(own["network"]),
        image=own["image"],
        capabilities=tuple(sorted(set(own["capabilities"]))),
        grace_seconds=own["grace"],
        reuse=own["reuse"],
        thresholds=thresholds,
    )


def _rule(rule: RulePart, shorten: Mapping[str, str]) -> Rule:
    place = rule.table.place
    return Rule(
        profile=rule.profile,
        match=rule.match,
        marker=rule.marker,
        suite=rule.suite,
        retries=rule.retries,
        timeout_seconds=rule.timeout,
        memory_bytes=rule.memory,
        cpus=rule.cpus,
        exclusive=rule.exclusive,
        group=rule.group,
        place=f"{shorten.get(place.source, place.source)}:{place.line}",
    )


def _suite(suite: SuitePart) -> Suite:
    return Suite(
        name=suite.name,
        match=suite.match,
        exclude=suite.exclude,
        runner=Runner(suite.runner),
        command=suite.command,
        results=ResultsFormat(suite.results) if suite.results else None,
        granularity=Granularity(suite.granularity),
        preload=Preload(suite.preload),
        env=dict(suite.env),
        pass_env=suite.pass_env,
        profile=suite.profile,
        working_dir=Path(suite.working_dir).as_posix(),
    )


def _image(name: str, image: ImagePart, root: Path) -> ImageSpec:
    if image.dockerfile is None:
        return ImageSpec(name=name, reference=image.reference)
    dockerfile = _file(image.dockerfile, root)
    return ImageSpec(
        name=name,
        dockerfile=dockerfile,
        context=dockerfile.parent if image.context is None else _file(image.context, root),
        build_args=dict(image.build_args),
        base=image.base,
    )


def _file(text: str, root: Path) -> Path:
    if text.startswith(_SHIPPED):
        return docker_folder() / text.removeprefix(_SHIPPED)
    return root / text


def _run(values: Mapping[str, Any]) -> RunSettings:
    own = {key.removeprefix("run."): value for key, value in values.items() if key.startswith("run.")}
    timeout = own.pop("timeout")
    return RunSettings(timeout_seconds=timeout, **own)


def _retention(values: Mapping[str, Any]) -> Retention:
    return Retention(
        records_days=values["retention.records"],
        rollups_days=values["retention.rollups"],
        samples_days=values["retention.samples"],
        samples_full_days=values["retention.samples_full"],
        runs_days=values["retention.runs"],
        runs_count=values["retention.runs_count"],
        runs_bytes=values["retention.runs_size"],
    )
