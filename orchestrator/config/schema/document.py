"""The shape of profiles.yaml, as pydantic models: every key, its type and its description.

One layer of settings (the file, the environment, the built-in defaults) is one `Document`; a key that a layer
does not give is absent from `model_fields_set`. The JSON Schema is generated from these models.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.config.schema import field_types as f  # noqa: TC001 - pydantic evaluates the annotations


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, defer_build=True)
    section: ClassVar[bool] = False
    """True: its keys are settings of their own, merged one by one; False: a layer replaces it whole."""


class ThresholdsPart(_Part):
    """When a figure becomes a violation; `off` switches a check off."""

    section = True
    memory_near: f.RatioOrOff = Field(None, description="Peak memory above this share of the limit, 0 to 1.")
    time_near: f.RatioOrOff = Field(None, description="Duration above this share of the timeout, 0 to 1.")
    pids_near: f.RatioOrOff = Field(
        None, description="Peak number of tasks above this share of the limit, 0 to 1."
    )
    cpu: f.DurationOrOff = Field(None, description="Budget of CPU time for one test.")
    throttled: f.RatioOrOff = Field(None, description="Throttled time above this share of the duration, 0 to 1.")
    log: f.SizeOrOff = Field(None, description="Output above this size is a flood; off: only a truncated log is.")
    memory_growth: f.RatioOrOff = Field(
        None, description="Anonymous memory that keeps growing by more than this share of the limit, 0 to 1."
    )
    oversized: f.RatioOrOff = Field(
        None,
        description="A rule's or suite's profile is too large for a test that needs at most this share of the "
        "next smaller one's memory, time and tasks, 0 to 1.",
    )
    tmpfs_near: f.RatioOrOff = Field(
        None, description="Used share, in bytes or files, of /tmp, /dev/shm or the outputs, 0 to 1."
    )
    open_files_growth: f.CountOrOff = Field(
        None, description="Open files by which one process keeps growing to its end."
    )
    threads_growth: f.CountOrOff = Field(
        None, description="Threads by which one process keeps growing to its end."
    )
    files_left: f.CountOrOff = Field(None, description="More entries than this left in /tmp.")
    files_left_size: f.SizeOrOff = Field(None, description="More than this size left in /tmp.")
    disk_write: f.SizeOrOff = Field(
        None, description="More than this size written to disk, which only a volume of the image allows."
    )


class ProfilePart(_Part):
    """A named bundle of limits. What it leaves out comes from `inherits`, else from the built-in defaults."""

    section = True
    description: f.Text = Field("", description="One line for people.")
    inherits: f.Name | None = Field(None, description="Profile that gives every key which this one leaves out.")
    cpus: f.Cpus = Field(1.0, description="CPUs at a time; fractions are allowed.")
    memory: f.Memory = Field(0, description="Memory and swap together; /tmp counts towards it.")
    timeout: f.Duration = Field(0.0, description="Time one test may take; queueing and start-up do not count.")
    tmpfs: f.Size = Field(0, description="Size of /tmp; at most `memory`.")
    tmpfs_inodes: f.Inodes = Field(0, description="Number of files that /tmp holds.")
    outputs: f.Size = Field(0, description="Size of $ORCH_OUTPUT_DIR, whose files come back.")
    shm: f.Size = Field(0, description="Size of /dev/shm.")
    pids: f.Pids = Field(0, description="Processes and threads at a time.")
    nofile: f.Inodes = Field(0, description="Open files of one process.")
    log: f.Size = Field(0, description="Kept size of each output stream; the rest is counted and dropped.")
    network: f.NetworkWord = Field("none", description="none: no network at all; bridge: the engine's own.")
    image: f.Name = Field("", description="Name of an image under `images`.")
    capabilities: tuple[f.CapabilityWord, ...] = Field(
        (), description="Capabilities given back after all were dropped."
    )
    grace: f.DurationOrZero = Field(0.0, description="Time between TERM and KILL.")
    reuse: f.ReuseCount = Field(
        1,
        description="Tests that one container may take, one after another; 1: a fresh one each. auto: up to 1000, "
        "but a fresh one for tests that left or changed something in their last runs, for exclusive tests, and "
        "where the profile has a network or capabilities.",
    )
    thresholds: ThresholdsPart = Field(ThresholdsPart(), description="When a figure becomes a violation.")


class RulePart(_Part):
    """Maps tests to a profile; all conditions given must hold; the first rule that matches wins."""

    match: f.Glob | None = Field(None, description="Glob of test files, relative to the project's root.")
    marker: f.Text | None = Field(None, description="pytest marker that the test carries.")
    suite: f.Name | None = Field(None, description="Name of the test's suite.")
    profile: f.Name | None = Field(None, description="Profile the tests run under.")
    retries: f.Retries | None = Field(None, description="Times a failed test is run again.")
    timeout: f.Duration | None = Field(None, description="Replaces the profile's timeout.")
    memory: f.Memory | None = Field(None, description="Replaces the profile's memory.")
    cpus: f.Cpus | None = Field(None, description="Replaces the profile's cpus.")
    exclusive: f.Flag = Field(False, description="Nothing else runs beside these tests.")
    group: f.Text | None = Field(None, description="Tests of a group run one at a time.")


class SuitePart(_Part):
    """Which files are tests, and how they are run. The first suite that matches a file wins."""

    name: f.Name = Field(description="Name, for rules and reports.")
    match: tuple[f.Glob, ...] = Field(
        min_length=1, description="Globs of test files, relative to the project's root; ** spans folders."
    )
    exclude: tuple[f.Glob, ...] = Field((), description="Globs of files that are no tests after all.")
    runner: f.RunnerWord = Field(description="What lists and starts the tests.")
    command: tuple[f.Text, ...] = Field(
        (),
        description="For runner command: the template ({test}, {name}, {output_dir}); else more arguments.",
    )
    results: f.ResultsWord | None = Field(None, description="Where the cases inside a test come from.")
    granularity: f.GranularityWord = Field("file", description="What gets a container of its own.")
    preload: f.PreloadWord = Field(
        "start",
        description="Of a pytest suite in reused containers: off starts a pytest for each test; start forks each "
        "test from a pytest that has its plugins loaded; collect from one that has collected the tests too.",
    )
    env: dict[f.EnvName, f.EnvValue] = Field({}, description="Variables set for the tests.")
    pass_env: tuple[f.EnvName, ...] = Field((), description="Variables of the host that are handed through.")
    profile: f.Name | None = Field(None, description="Profile of the tests where no rule matches.")
    working_dir: f.Text = Field(".", description="Where the tests start, relative to the project's root.")


class ImagePart(_Part):
    """Where an image comes from: either `dockerfile`, or `reference`."""

    dockerfile: f.Text | None = Field(
        None, description="Built from this file of the project; `shipped:NAME` is one of orch's own."
    )
    context: f.Text | None = Field(None, description="Build context; the Dockerfile's folder if not given.")
    reference: f.Text | None = Field(None, description="A tag or digest that the engine has or can pull.")
    build_args: dict[f.EnvName, f.EnvValue] = Field({}, description="Arguments of the build.")
    base: f.Name | None = Field(None, description="Image of this file that is built first and becomes BASE_IMAGE.")


class RunPart(_Part):
    """How a run behaves where the command line says nothing else."""

    section = True
    jobs: f.CountOrAuto = Field(None, description="Tests at a time; auto: as many as the machine holds.")
    retries: f.Retries = Field(0, description="Times a failed test is run again.")
    flaky_result: f.PassFail = Field("pass", description="What a test counts that failed first and passed later.")
    max_fail: f.CountOrOff = Field(None, description="Stop after this many failures.")
    timeout: f.DurationOrOff = Field(None, description="Time the whole run may take.")
    violations: f.OffWarnFail = Field(
        "warn",
        description="Broken budgets: not looked for (off), told (warn), or exit code 3, save for notices (fail).",
    )
    strict_limits: f.Flag = Field(
        False, description="Refuse a profile larger than the host instead of clamping it."
    )
    no_tests: f.PassWarnFail = Field("fail", description="What an empty selection counts.")
    success_output: f.OutputWord = Field("never", description="When the output of passed tests is shown.")
    failure_output: f.OutputWord = Field("final", description="When the output of failed tests is shown.")


class RetentionPart(_Part):
    """How long what a run leaves behind is kept."""

    section = True
    records: f.DaysOfRecords = Field(0, description="Resource records, in whole days; at least 7d.")
    rollups: f.DaysOfRecords = Field(0, description="Daily sums, in whole days; at least 7d.")
    samples: f.Days = Field(0, description="Time series of attempts, in whole days.")
    samples_full: f.Days = Field(0, description="Every point of them, in whole days; older ones are thinned.")
    runs: f.Days = Field(0, description="Run folders, in whole days.")
    runs_count: f.Count = Field(1, description="Run folders kept at most.")
    runs_size: f.Size = Field(0, description="Disk space of all run folders together.")


class Document(_Part):
    """Resource profiles of a project's tests, and how the tests are found and run."""

    section = True
    version: f.Version = Field(1, description="Version of this file's format.")
    default_profile: f.Name = Field("standard", description="Profile of tests that nothing else maps.")
    profiles: dict[f.Name, ProfilePart] = Field({}, description="Limits by name; added to the built-in four.")
    rules: tuple[RulePart, ...] = Field((), description="Which tests run under which profile; first match wins.")
    suites: tuple[SuitePart, ...] = Field((), description="Which files are tests; replaces the built-in suites.")
    images: dict[f.Name, ImagePart] = Field({}, description="Images by name; added to isolation and full.")
    run: RunPart = Field(RunPart(), description="How a run behaves.")
    retention: RetentionPart = Field(RetentionPart(), description="How long results are kept.")
    presets: dict[f.Name, tuple[f.Text, ...]] = Field({}, description="Named bundles of flags for `orch run`.")
    seccomp: f.Text | None = Field(None, description="Seccomp profile (JSON) instead of the shipped one.")
    state_dir: f.Text = Field(".orch", description="Folder of results, relative to the project's root.")
    database: f.Url | None = Field(None, description="Resource database: a file's path, or an SQLAlchemy URL.")
