"""The keys of profiles.yaml with their types and descriptions.

Each layer of settings (the built-in defaults, the file, the environment, the command line) is read as one
`Document`; `given` of a part has the keys that the layer contains. The JSON Schema comes from the same classes.
"""

from __future__ import annotations

from orchestrator.config.schema import field_types as t
from orchestrator.config.schema.parts import Key, ListOf, MappingOf, Part, PartOf


class ThresholdsPart(Part):
    """When a figure becomes a violation; `off` switches a check off."""

    section = True
    memory_near = Key(t.RATIO_OR_OFF, "Peak memory above this share of the limit, 0 to 1.")
    time_near = Key(t.RATIO_OR_OFF, "Duration above this share of the timeout, 0 to 1.")
    pids_near = Key(t.RATIO_OR_OFF, "Peak number of tasks above this share of the limit, 0 to 1.")
    cpu = Key(t.DURATION_OR_OFF, "Budget of CPU time for one test.")
    throttled = Key(t.RATIO_OR_OFF, "Throttled time above this share of the duration, 0 to 1.")
    log = Key(t.SIZE_OR_OFF, "Output above this size is a flood; off: only a truncated log is.")
    memory_growth = Key(
        t.RATIO_OR_OFF, "Anonymous memory that keeps growing by more than this share of the limit, 0 to 1."
    )
    oversized = Key(
        t.RATIO_OR_OFF,
        "A rule's or suite's profile is too large for a test that needs at most this share of the "
        "next smaller one's memory, time and tasks, 0 to 1.",
    )
    tmpfs_near = Key(t.RATIO_OR_OFF, "Used share, in bytes or files, of /tmp, /dev/shm or the outputs, 0 to 1.")
    open_files_growth = Key(t.COUNT_OR_OFF, "Open files by which one process keeps growing to its end.")
    threads_growth = Key(t.COUNT_OR_OFF, "Threads by which one process keeps growing to its end.")
    files_left = Key(t.COUNT_OR_OFF, "More entries than this left in /tmp.")
    files_left_size = Key(t.SIZE_OR_OFF, "More than this size left in /tmp.")
    disk_write = Key(
        t.SIZE_OR_OFF, "More than this size written to disk, which only a volume of the image allows."
    )


class ProfilePart(Part):
    """A named bundle of limits. What it leaves out comes from `inherits`, else from the built-in defaults."""

    section = True
    description = Key(t.TEXT, "One line for people.")
    inherits = Key(t.NAME, "Profile that gives every key which this one leaves out.")
    cpus = Key(t.CPUS, "CPUs at a time; fractions are allowed.")
    memory = Key(t.MEMORY, "Memory and swap together; /tmp counts towards it.")
    timeout = Key(t.DURATION, "Time one test may take; queueing and start-up do not count.")
    tmpfs = Key(t.SIZE, "Size of /tmp; at most `memory`.")
    tmpfs_inodes = Key(t.FILES, "Number of files that /tmp holds.")
    outputs = Key(t.SIZE, "Size of $ORCH_OUTPUT_DIR, whose files come back.")
    shm = Key(t.SIZE, "Size of /dev/shm.")
    pids = Key(t.PIDS, "Processes and threads at a time.")
    nofile = Key(t.FILES, "Open files of one process.")
    log = Key(t.SIZE, "Kept size of each output stream; the rest is counted and dropped.")
    network = Key(t.NETWORK, "none: no network at all; bridge: the engine's own.")
    image = Key(t.NAME, "Name of an image under `images`.")
    capabilities = Key(ListOf(t.CAPABILITY), "Capabilities given back after all were dropped.")
    grace = Key(t.DURATION_OR_ZERO, "Time between TERM and KILL.")
    reuse = Key(t.COUNT, "Tests that one container may take, one after another; 1: a fresh one each.")
    thresholds = Key(PartOf(ThresholdsPart), "When a figure becomes a violation.")


class RulePart(Part):
    """Maps tests to a profile; all conditions given must hold; the first rule that matches wins."""

    match = Key(t.GLOB, "Glob of test files, relative to the project's root.", default=None)
    marker = Key(t.TEXT, "pytest marker that the test carries.", default=None)
    suite = Key(t.NAME, "Name of the test's suite.", default=None)
    profile = Key(t.NAME, "Profile the tests run under.", default=None)
    retries = Key(t.RETRIES, "Times a failed test is run again.", default=None)
    timeout = Key(t.DURATION, "Replaces the profile's timeout.", default=None)
    memory = Key(t.MEMORY, "Replaces the profile's memory.", default=None)
    cpus = Key(t.CPUS, "Replaces the profile's cpus.", default=None)
    exclusive = Key(t.FLAG, "Nothing else runs beside these tests.", default=False)
    group = Key(t.TEXT, "Tests of a group run one at a time.", default=None)


class SuitePart(Part):
    """Which files are tests, and how they are run. The first suite that matches a file wins."""

    name = Key(t.NAME, "Name, for rules and reports.", required=True)
    match = Key(
        ListOf(t.GLOB, at_least=1),
        "Globs of test files, relative to the project's root; ** spans folders.",
        required=True,
    )
    exclude = Key(ListOf(t.GLOB), "Globs of files that are no tests after all.", default=())
    runner = Key(t.RUNNER, "What lists and starts the tests.", required=True)
    command = Key(
        ListOf(t.TEXT),
        "For runner command: the template ({test}, {name}, {output_dir}); else more arguments.",
        default=(),
    )
    results = Key(t.RESULTS, "Where the cases inside a test come from.", default=None)
    granularity = Key(t.GRANULARITY, "What gets a container of its own.", default="file")
    preload = Key(
        t.PRELOAD,
        "Of a pytest suite in reused containers: off starts a pytest for each test; start forks each "
        "test from a pytest that has its plugins loaded; collect from one that has collected the tests too.",
        default="start",
    )
    env = Key(MappingOf(t.ENV_NAME, t.ENV_VALUE), "Variables set for the tests.", default={})
    pass_env = Key(ListOf(t.ENV_NAME), "Variables of the host that are handed through.", default=())
    profile = Key(t.NAME, "Profile of the tests where no rule matches.", default=None)
    working_dir = Key(t.TEXT, "Where the tests start, relative to the project's root.", default=".")


class ImagePart(Part):
    """Where an image comes from: either `dockerfile`, or `reference`."""

    dockerfile = Key(
        t.TEXT, "Built from this file of the project; `shipped:NAME` is one of orch's own.", default=None
    )
    context = Key(t.TEXT, "Build context; the Dockerfile's folder if not given.", default=None)
    reference = Key(t.TEXT, "A tag or digest that the engine has or can pull.", default=None)
    build_args = Key(MappingOf(t.ENV_NAME, t.ENV_VALUE), "Arguments of the build.", default={})
    base = Key(t.NAME, "Image of this file that is built first and becomes BASE_IMAGE.", default=None)


class RunPart(Part):
    """How a run behaves where the command line says nothing else."""

    section = True
    jobs = Key(t.COUNT_OR_AUTO, "Tests at a time; auto: as many as the machine holds.")
    retries = Key(t.RETRIES, "Times a failed test is run again.")
    flaky_result = Key(t.PASS_FAIL, "What a test counts that failed first and passed later.")
    max_fail = Key(t.COUNT_OR_OFF, "Stop after this many failures.")
    timeout = Key(t.DURATION_OR_OFF, "Time the whole run may take.")
    violations = Key(
        t.OFF_WARN_FAIL,
        "Broken budgets: not looked for (off), told (warn), or exit code 3, save for notices (fail).",
    )
    strict_limits = Key(t.FLAG, "Refuse a profile larger than the host instead of clamping it.")
    no_tests = Key(t.PASS_WARN_FAIL, "What an empty selection counts.")
    success_output = Key(t.OUTPUT, "When the output of passed tests is shown.")
    failure_output = Key(t.OUTPUT, "When the output of failed tests is shown.")


class RetentionPart(Part):
    """How long what a run leaves behind is kept."""

    section = True
    records = Key(t.DAYS_OF_RECORDS, "Resource records, in whole days; at least 7d.")
    rollups = Key(t.DAYS_OF_RECORDS, "Daily sums, in whole days; at least 7d.")
    samples = Key(t.DAYS, "Time series of attempts, in whole days.")
    samples_full = Key(t.DAYS, "Every point of them, in whole days; older ones are thinned.")
    runs = Key(t.DAYS, "Run folders, in whole days.")
    runs_count = Key(t.COUNT, "Run folders kept at most.")
    runs_size = Key(t.SIZE, "Disk space of all run folders together.")


class Document(Part):
    """Resource profiles of a project's tests, and how the tests are found and run."""

    section = True
    version = Key(t.VERSION, "Version of this file's format.", default=1)
    default_profile = Key(t.NAME, "Profile of tests that nothing else maps.", default="standard")
    profiles = Key(
        MappingOf(t.NAME, PartOf(ProfilePart), keep_valid=True),
        "Limits by name; added to the built-in four.",
        default={},
        may_be_empty=True,
    )
    rules = Key(
        ListOf(PartOf(RulePart)),
        "Which tests run under which profile; first match wins.",
        default=(),
        may_be_empty=True,
    )
    suites = Key(
        ListOf(PartOf(SuitePart)),
        "Which files are tests; replaces the built-in suites.",
        default=(),
        may_be_empty=True,
    )
    images = Key(
        MappingOf(t.NAME, PartOf(ImagePart), keep_valid=True),
        "Images by name; added to isolation and full.",
        default={},
        may_be_empty=True,
    )
    run = Key(PartOf(RunPart), "How a run behaves.", may_be_empty=True)
    retention = Key(PartOf(RetentionPart), "How long results are kept.", may_be_empty=True)
    presets = Key(
        MappingOf(t.NAME, ListOf(t.TEXT), keep_valid=True),
        "Named bundles of flags for `orch run`.",
        default={},
        may_be_empty=True,
    )
    seccomp = Key(t.TEXT, "Seccomp profile (JSON) instead of the shipped one.", default=None)
    state_dir = Key(t.TEXT, "Folder of results, relative to the project's root.", default=".orch")
    database = Key(t.URL, "Resource database: a file's path, or an SQLAlchemy URL.", default=None)
