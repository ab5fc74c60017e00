"""The whole configuration as one frozen value, and the single settings that it is made of."""

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
    """Where a setting's value came from, strongest first."""

    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    FILE = "file"
    INHERITS = "inherits"
    DEFAULT = "built-in default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Layer and place of one setting's value."""

    layer: Layer
    place: str
    """`file:line:column` of the value, the name of a variable, else the layer's own name."""

    def __str__(self) -> str:
        return f"{self.layer} ({self.place})" if self.place != self.layer else self.place


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and its source."""

    value: Any
    layer: Layer
    place: Place
    owner: str = ""
    """For an inherited value: the profile that gives it."""

    def origin(self, shorten: Mapping[str, str]) -> Origin:
        """Layer and place for the user; `shorten` gives names of files as they are shown there."""
        place = str(replace(self.place, source=shorten.get(self.place.source, self.place.source)))
        return Origin(layer=self.layer, place=f"{place} (profile {self.owner})" if self.owner else place)


Settings = dict[str, Setting]
"""Settings by their dotted names, such as `run.jobs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a run behaves where the command line says nothing else."""

    jobs: int | None = None
    """Tests at a time; None: as many as the machine holds."""
    retries: int = 0
    flaky_result: FlakyResult = "pass"
    max_fail: int | None = None
    timeout_seconds: float | None = None
    """Of the whole run; None: no deadline."""
    violations: ViolationsPolicy = "warn"
    strict_limits: bool = False
    no_tests: NoTestsPolicy = "fail"
    success_output: OutputPolicy = "never"
    failure_output: OutputPolicy = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what a run leaves behind is kept."""

    records_days: int = 400
    """Resource records of single tests; never under 7."""
    rollups_days: int = 1200
    """Daily sums; never under 7."""
    samples_days: int = 90
    """Time series of attempts, thinned or not."""
    samples_full_days: int = 7
    """Every point of a time series; after that a few that keep its shape and its peaks."""
    runs_days: int = 30
    """Run folders under `.orch/runs`; whichever of the three is first."""
    runs_count: int = 100
    runs_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one call of orch, merged from all layers and checked."""

    project_root: Path
    path: Path | None
    """The profiles.yaml that was read; None: built-in defaults."""
    digest: str
    """SHA-256 of what decides how tests run; not of comments, places, database or state folder."""
    profiles: Mapping[str, Profile]
    default_profile: str = "standard"
    rules: tuple[Rule, ...] = ()
    suites: tuple[Suite, ...] = ()
    images: Mapping[str, ImageSpec]
    run: RunSettings = field(default_factory=RunSettings)
    retention: Retention = field(default_factory=Retention)
    seccomp: Path | None = None
    """None: the profile that orch ships."""
    state_dir: Path
    database_url: str | None = None
    """None: SQLite in `state_dir`."""
    presets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name -> flags of `orch run`."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Dotted setting, as in the file (`profiles.fast.memory`) -> where its value came from."""
