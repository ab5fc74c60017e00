"""The keys of profiles.yaml with their types and descriptions.

Each layer of settings (the built-in defaults, the file, the environment, the command line) is read as one
`Document`; `given` of a part has the keys that the layer contains. The JSON Schema comes from the same classes.
"""

from __future__ import annotations

from orchestrator.config.schema import field_types as t
from orchestrator.config.schema.parts import Key, ListOf, MappingOf, Part, PartOf


class ThresholdsPart(Part):
    """Thresholds above which a figure is a violation; `off` switches a check off."""

    section = True
    memory_near = Key(t.RATIO_OR_OFF, "Peak memory above this share of the limit, 0 to 1.")
    time_near = Key(t.RATIO_OR_OFF, "Duration above this share of the timeout, 0 to 1.")
    pids_near = Key(t.RATIO_OR_OFF, "Peak number of tasks above this share of the limit, 0 to 1.")
    cpu = Key(t.DURATION_OR_OFF, "CPU time of one test above this time.")
    throttled = Key(t.RATIO_OR_OFF, "Throttled time above this share of the duration, 0 to 1.")
    log = Key(t.SIZE_OR_OFF, "Output above this size; off: only output that was truncated.")
    memory_growth = Key(
        t.RATIO_OR_OFF, "Anonymous memory that keeps growing by more than this share of the limit, 0 to 1."
    )
    oversized = Key(
        t.RATIO_OR_OFF,
        "A rule's or suite's profile is too large for a test that needs at most this share of the "
        "next smaller one's memory, time and tasks, 0 to 1.",
    )
    tmpfs_near = Key(t.RATIO_OR_OFF, "Used share, in bytes or files, of /tmp, /dev/shm or the outputs, 0 to 1.")
    open_files_growth = Key(t.COUNT_OR_OFF, "Growth of one process's open files that continues to its end.")
    threads_growth = Key(t.COUNT_OR_OFF, "Growth of one process's threads that continues to its end.")
    files_left = Key(t.COUNT_OR_OFF, "Number of files and folders left in /tmp above this number.")
    files_left_size = Key(t.SIZE_OR_OFF, "Size of files left in /tmp above this size.")
    disk_write = Key(
        t.SIZE_OR_OFF, "Data written to disk above this size; only a volume of the image can be written to."
    )


class ProfilePart(Part):
    """A named set of limits. Missing keys come from `inherits`, or else from the built-in defaults."""

    section = True
    description = Key(t.TEXT, "One line of description.")
    inherits = Key(t.NAME, "Profile from which this one takes each key that it does not have.")
    cpus = Key(t.CPUS, "CPUs at a time; fractions are allowed.")
    memory = Key(t.MEMORY, "Memory and swap together; /tmp counts towards it.")
    timeout = Key(t.DURATION, "Time limit of one test, without queueing and start-up.")
    tmpfs = Key(t.SIZE, "Size of /tmp; at most `memory`.")
    tmpfs_inodes = Key(t.FILES, "Number of files that /tmp holds.")
    outputs = Key(t.SIZE, "Size of $ORCH_OUTPUT_DIR, whose files are copied to the run's folder.")
    shm = Key(t.SIZE, "Size of /dev/shm.")
    pids = Key(t.PIDS, "Processes and threads at a time.")
    nofile = Key(t.FILES, "Open files of one process.")
    log = Key(t.SIZE, "Size up to which each output stream is kept; the rest is counted and dropped.")
    network = Key(t.NETWORK, "none: no network; bridge: the engine's default network.")
    image = Key(t.NAME, "Name of an image under `images`.")
    capabilities = Key(ListOf(t.CAPABILITY), "Capabilities that tests have; all others are dropped.")
    grace = Key(t.DURATION_OR_ZERO, "Time between TERM and KILL.")
    reuse = Key(t.COUNT, "Number of tests that one container runs in turn; 1: a fresh container for each.")
    thresholds = Key(PartOf(ThresholdsPart), "Thresholds above which a figure is a violation.")


class RulePart(Part):
    """Maps tests to a profile; all conditions given must hold; the first rule that matches is used."""

    match = Key(t.GLOB, "Glob of test files, relative to the project's root.", default=None)
    marker = Key(t.TEXT, "pytest marker that the test carries.", default=None)
    suite = Key(t.NAME, "Name of the test's suite.", default=None)
    profile = Key(t.NAME, "Profile the tests run under.", default=None)
    retries = Key(t.RETRIES, "Number of times a failed test is run again.", default=None)
    timeout = Key(t.DURATION, "Replaces the profile's timeout.", default=None)
    memory = Key(t.MEMORY, "Replaces the profile's memory.", default=None)
    cpus = Key(t.CPUS, "Replaces the profile's cpus.", default=None)
    exclusive = Key(t.FLAG, "true: no other test runs at the same time.", default=False)
    group = Key(t.TEXT, "Tests of a group run one at a time.", default=None)


class SuitePart(Part):
    """A set of test files and the way they are run. The first suite that matches a file is used."""

    name = Key(t.NAME, "Name, for rules and reports.", required=True)
    match = Key(
        ListOf(t.GLOB, at_least=1),
        "Globs of test files, relative to the project's root; ** spans folders.",
        required=True,
    )
    exclude = Key(ListOf(t.GLOB), "Globs of files that match but are not tests.", default=())
    runner = Key(t.RUNNER, "Program that lists and starts the tests.", required=True)
    command = Key(
        ListOf(t.TEXT),
        "For runner command: the template ({test}, {name}, {output_dir}); for others, additional arguments.",
        default=(),
    )
    results = Key(t.RESULTS, "Format from which the cases inside a test are read.", default=None)
    granularity = Key(t.GRANULARITY, "Unit that is scheduled as one test.", default="file")
    preload = Key(
        t.PRELOAD,
        "For a pytest suite in reused containers: off starts a pytest for each test; start forks each "
        "test from a pytest that has its plugins loaded; collect from one that has collected the tests too.",
        default="start",
    )
    env = Key(MappingOf(t.ENV_NAME, t.ENV_VALUE), "Variables set for the tests.", default={})
    pass_env = Key(ListOf(t.ENV_NAME), "Variables of the host that tests get.", default=())
    profile = Key(t.NAME, "Profile of the tests where no rule matches.", default=None)
    working_dir = Key(t.TEXT, "Working directory of the tests, relative to the project's root.", default=".")


class ImagePart(Part):
    """An image, built from `dockerfile` or found under `reference`."""

    dockerfile = Key(
        t.TEXT, "Built from this file of the project; `shipped:NAME` is one of orch's own.", default=None
    )
    context = Key(t.TEXT, "Build context; by default the Dockerfile's folder.", default=None)
    reference = Key(t.TEXT, "A tag or digest that the engine has or can pull.", default=None)
    build_args = Key(MappingOf(t.ENV_NAME, t.ENV_VALUE), "Arguments of the build.", default={})
    base = Key(t.NAME, "Image under `images` that is built first and passed as BASE_IMAGE.", default=None)


class RunPart(Part):
    """Settings of a run, which the command line can override."""

    section = True
    jobs = Key(t.COUNT_OR_AUTO, "Number of tests at a time; auto: as many as fit on the machine.")
    retries = Key(t.RETRIES, "Number of times a failed test is run again.")
    flaky_result = Key(t.PASS_FAIL, "Result of a test that failed first and passed in a retry.")
    max_fail = Key(t.COUNT_OR_OFF, "Stop after this many failures.")
    timeout = Key(t.DURATION_OR_OFF, "Time limit of the whole run.")
    violations = Key(
        t.OFF_WARN_FAIL,
        "Violations: not checked (off), reported (warn), or reported with exit code 3, except notices (fail).",
    )
    strict_limits = Key(t.FLAG, "Refuse a profile larger than the host instead of clamping it.")
    no_tests = Key(t.PASS_WARN_FAIL, "Result of a run without tests.")
    success_output = Key(t.OUTPUT, "When the output of passed tests is shown.")
    failure_output = Key(t.OUTPUT, "When the output of failed tests is shown.")


class RetentionPart(Part):
    """Age and size limits of the data of runs."""

    section = True
    records = Key(t.DAYS_OF_RECORDS, "Resource records, in whole days; at least 7d.")
    rollups = Key(t.DAYS_OF_RECORDS, "Daily sums, in whole days; at least 7d.")
    samples = Key(t.DAYS, "Time series of attempts, in whole days.")
    samples_full = Key(t.DAYS, "Time series with all points, in whole days; older ones are reduced to fewer.")
    runs = Key(t.DAYS, "Run folders, in whole days.")
    runs_count = Key(t.COUNT, "Largest number of run folders.")
    runs_size = Key(t.SIZE, "Largest size of all run folders together.")


class Document(Part):
    """Resource profiles of a project's tests, and how the tests are found and run."""

    section = True
    version = Key(t.VERSION, "Version of this file's format.", default=1)
    default_profile = Key(t.NAME, "Profile of tests for which no rule or suite names one.", default="standard")
    profiles = Key(
        MappingOf(t.NAME, PartOf(ProfilePart), keep_valid=True),
        "Profiles by name, added to the four built-in ones.",
        default={},
        may_be_empty=True,
    )
    rules = Key(
        ListOf(PartOf(RulePart)),
        "Rules that map tests to profiles; the first that matches is used.",
        default=(),
        may_be_empty=True,
    )
    suites = Key(
        ListOf(PartOf(SuitePart)),
        "Suites of tests; they replace the built-in ones.",
        default=(),
        may_be_empty=True,
    )
    images = Key(
        MappingOf(t.NAME, PartOf(ImagePart), keep_valid=True),
        "Images by name, added to the built-in ones, isolation and full.",
        default={},
        may_be_empty=True,
    )
    run = Key(PartOf(RunPart), "Settings of a run.", may_be_empty=True)
    retention = Key(PartOf(RetentionPart), "Age and size limits of the data of runs.", may_be_empty=True)
    presets = Key(
        MappingOf(t.NAME, ListOf(t.TEXT), keep_valid=True),
        "Named lists of options for `orch run`.",
        default={},
        may_be_empty=True,
    )
    seccomp = Key(t.TEXT, "Seccomp profile (JSON) instead of the shipped one.", default=None)
    state_dir = Key(t.TEXT, "Folder of results, relative to the project's root.", default=".orch")
    database = Key(t.URL, "Resource database: a file's path, or an SQLAlchemy URL.", default=None)
