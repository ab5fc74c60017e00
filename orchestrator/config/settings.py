"""The configuration as one frozen value, and the settings that it is built from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.config.parsing.problems import Place
    from orchestrator.model.profiles import ImageSpec, Profile, Rule
    from orchestrator.model.suites import Suite

ViolationsPolicy = Literal["off", "warn", "fail"]
NoTestsPolicy = Literal["pass", "warn", "fail"]
FlakyResult = Literal["pass", "fail"]
OutputPolicy = Literal["immediate", "final", "never"]


class Layer(StrEnum):
    """A source of settings; the members are in the order of precedence, strongest first."""

    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    FILE = "file"
    INHERITS = "inherits"
    DEFAULT = "built-in default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The layer and the place that set the value of a setting."""

    layer: Layer
    place: str
    """`file:line:column` of the value, the name of a variable, else the layer's own name."""

    def __str__(self) -> str:
        return f"{self.layer} ({self.place})" if self.place != self.layer else self.place


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one setting and its source."""

    value: Any
    layer: Layer
    place: Place
    owner: str = ""
    """The profile that an inherited value comes from; empty if the value is not inherited."""

    def origin(self, shorten: Mapping[str, str]) -> Origin:
        """Return layer and place for the user. `shorten` maps names of files to the names that are shown."""
        place = str(replace(self.place, source=shorten.get(self.place.source, self.place.source)))
        return Origin(layer=self.layer, place=f"{place} (profile {self.owner})" if self.owner else place)


Settings = dict[str, Setting]
"""Settings by their dotted names, such as `run.jobs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of a run, which the command line can override."""

    jobs: int | None = None
    """The number of tests at a time; None: as many as fit on the machine."""
    retries: int = 0
    flaky_result: FlakyResult = "pass"
    max_fail: int | None = None
    timeout_seconds: float | None = None
    """The time limit of the whole run; None: no limit."""
    violations: ViolationsPolicy = "warn"
    strict_limits: bool = False
    no_tests: NoTestsPolicy = "fail"
    success_output: OutputPolicy = "never"
    failure_output: OutputPolicy = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Age and size limits of the data of runs."""

    records_days: int = 400
    """The age limit of the resource records of tests; at least 7."""
    rollups_days: int = 1200
    """The age limit of daily sums; at least 7."""
    samples_days: int = 90
    """The age limit of time series of attempts."""
    samples_full_days: int = 7
    """The age at which time series are reduced to a few points that keep their shape and their peaks."""
    runs_days: int = 30
    """The age limit of run folders in `.orch/runs`; `runs_count` and `runs_bytes` limit them too."""
    runs_count: int = 100
    runs_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one call of orch, merged from all layers and checked."""

    project_root: Path
    path: Path | None
    """The profiles.yaml that was read; None if there is none."""
    digest: str
    """The SHA-256 of the settings except database, state folder, retention and presets."""
    profiles: Mapping[str, Profile]
    default_profile: str = "standard"
    rules: tuple[Rule, ...] = ()
    suites: tuple[Suite, ...] = ()
    images: Mapping[str, ImageSpec]
    run: RunSettings = field(default_factory=RunSettings)
    retention: Retention = field(default_factory=Retention)
    seccomp: Path | None = None
    """The seccomp profile; None: the one that orch ships."""
    state_dir: Path
    database_url: str | None = None
    """The database's path or URL; None: an SQLite file in `state_dir`."""
    presets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Flags of `orch run` by the preset's name."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """The origin of each setting by its dotted name, such as `profiles.fast.memory`."""
