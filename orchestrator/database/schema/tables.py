"""Define the tables of the resource database. Each column has a comment; docs/schema.md is made from them.

A change of a table needs a new file in `migrations/versions` and a higher `version.SCHEMA_VERSION`; a unit test
compares the two. A change of a comment does not.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.database.schema.columns import blob, count, flag, json, moment, real, reference, text, uuid_key

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

hosts = sa.Table(
    "hosts",
    metadata,
    uuid_key("UUID made from the other columns: a machine that changes gets a new row."),
    text("machine_id", "Digest of the machine id, which distinguishes machines without naming them."),
    real("cpus", "CPUs that orch was granted there (affinity and cgroup quota)."),
    count("memory_bytes", "Memory that orch was granted there."),
    text("kernel", "Kernel release."),
    text("python", "Version of the Python that ran orch."),
    comment="Machines on which runs took place, in their state at that time.",
)

projects = sa.Table(
    "projects",
    metadata,
    text(
        "id",
        "The project's id, stored in its state folder: a UUID, or its name if it is from before schema 8.",
        primary_key=True,
    ),
    text("name", "Name of its folder in the newest run, for display."),
    moment("named_at", "Start of the run with that name."),
    comment="Projects whose tests were recorded.",
)

runs = sa.Table(
    "runs",
    metadata,
    uuid_key("UUID; its first 8 digits are what users read and type."),
    moment("started_at", "Start of the run."),
    text("status", "running, finished or interrupted."),
    text(
        "owner",
        "Token of the orch process that writes this run, to see whether it is alive.",
        nullable=True,
    ),
    json("argv", "The command line as typed, passwords and tokens replaced by ***.", nullable=False),
    text("project", "Name of the project's folder at that time."),
    reference("project_id", "projects.id", "The project whose tests these are."),
    text("config_digest", "Digest of the effective configuration."),
    text("orch_version", "Version of orch."),
    reference("host_id", "hosts.id", "The machine orch ran on."),
    text("engine_name", "docker or podman."),
    text("engine_version", "The engine's version."),
    json("engine", "The engine's description of itself (EngineInfo).", nullable=False),
    text("revision", "Revision of the project's source.", nullable=True),
    text("branch", "Branch of the project's source.", nullable=True),
    flag("dirty", "True if the source had uncommitted changes.", nullable=True),
    count("planned_count", "Tests times repetitions that were planned."),
    blob("planned", "Planned tests: zlib-compressed JSON, [[path, case or null, repetition], …]."),
    count("exit_code", "Exit code of orch; NULL until the run ended.", nullable=True),
    real("duration_seconds", "Length of the run; NULL until it ended.", nullable=True),
    json("counts", "Tests per outcome, and tests, flaky, violations; NULL until the run ended."),
    text("origin", "identity.id of the database it was merged from; NULL: recorded here.", nullable=True),
    sa.Column(
        "samples_kept",
        sa.Text,
        nullable=False,
        server_default="full",
        comment="How the time series of its attempts are kept: full, thinned or none.",
    ),
    sa.Index(None, "started_at"),
    comment="One row for each call of `orch run`.",
)

images = sa.Table(
    "images",
    metadata,
    reference("run_id", "runs.id", "The run.", primary_key=True),
    text("name", "Name of the image in the configuration.", primary_key=True),
    text("image_id", "Image id to which the name was pinned when the run started."),
    comment="Images that runs were pinned to.",
)

ledger = sa.Table(
    "ledger",
    metadata,
    reference("run_id", "runs.id", "The run.", primary_key=True),
    count("expected_containers", "Containers that the run was expected to create."),
    count("created_containers", "Containers that it created."),
    count("removed_containers", "Containers that it removed."),
    json("left_objects", "Kind and name of each object that still existed at the end.", nullable=False),
    json("unexpected_objects", "Unexpected objects, with the test they belong to.", nullable=False),
    comment="Containers that each run created, and objects that were left.",
)

tests = sa.Table(
    "tests",
    metadata,
    uuid_key("UUID made from the other columns: the same test has the same key in every database."),
    reference("project_id", "projects.id", "The project the test belongs to."),
    text("path", "POSIX path relative to the project's root."),
    text("case_name", "The runner's name of a case in the file; NULL: the whole file.", nullable=True),
    sa.Index(None, "path", "case_name"),
    comment="All tests that were ever recorded.",
)

fact_sheets = sa.Table(
    "fact_sheets",
    metadata,
    uuid_key("UUID made from the content."),
    text("kind", "usage (sources, missing, bounds, overheads, disagreements) or attestation."),
    json("facts", "The facts, as a JSON object.", nullable=False),
    comment="Facts that are equal for many attempts, stored once.",
)

attempts = sa.Table(
    "attempts",
    metadata,
    uuid_key("UUID of the attempt."),
    reference("run_id", "runs.id", "The run it belongs to."),
    reference("test_id", "tests.id", "The test that ran."),
    text("suite", "Suite that found the test."),
    count("repetition", "1 to N of --repeat N."),
    count("attempt", "1 for the first, then one more for each retry or promotion."),
    text("profile", "Profile it ran under."),
    text("reason", "Reason for this profile."),
    json("clamped", "Notices of limits lowered to what the host has; NULL: none."),
    text("outcome", "passed, failed, timeout, oom, crashed, infra, interrupted or skipped."),
    text("message", "Reason for the outcome in one line; empty for a pass."),
    count("exit_code", "Exit code of the test; NULL: not known, or ended by a signal.", nullable=True),
    count("signal", "Signal that ended the test.", nullable=True),
    count("witnesses", "Number of independent witnesses that agreed on how the test ended."),
    moment("started_at", "Start of the test itself, after the container was ready."),
    real("queue_seconds", "Time that the test waited for a slot."),
    real("create_seconds", "Time to create the container."),
    real("start_seconds", "Time to start the container."),
    real("test_seconds", "Duration of the test itself, without queueing and start-up."),
    real("teardown_seconds", "Time to end and remove the container."),
    real("limit_cpus", "Effective limit of CPUs."),
    count("limit_memory_bytes", "Effective limit of memory (with swap)."),
    real("limit_timeout_seconds", "Effective timeout."),
    count("limit_tmpfs_bytes", "Size of /tmp."),
    count("limit_tmpfs_inodes", "Largest number of files in /tmp."),
    count("limit_outputs_bytes", "Size of the output folder."),
    count("limit_shm_bytes", "Size of /dev/shm."),
    count("limit_pids", "Effective limit of processes and threads."),
    count("limit_nofile", "Effective limit of open files."),
    count("limit_log_bytes", "Largest number of bytes kept of each output stream."),
    real(
        "cpu_seconds",
        "CPU time, user and system. This and the following: NULL if not measured.",
        nullable=True,
    ),
    real("cpu_user_seconds", "CPU time in user mode.", nullable=True),
    real("cpu_system_seconds", "CPU time in the kernel.", nullable=True),
    count(
        "memory_peak_bytes",
        "Highest memory of the test itself, beyond memory_floor_bytes and without page cache.",
        nullable=True,
    ),
    count(
        "memory_floor_bytes",
        "Memory charged before the test: the agent, a preloaded runner, page cache of earlier tests.",
        nullable=True,
    ),
    count(
        "memory_charged_peak_bytes",
        "Highest total of memory that was charged: before the test, by the test itself, and page cache.",
        nullable=True,
    ),
    count("page_cache_bytes", "Page cache charged while the test ran.", nullable=True),
    count("anon_peak_bytes", "Highest anonymous memory seen.", nullable=True),
    count("file_peak_bytes", "Highest page cache seen.", nullable=True),
    count("shmem_peak_bytes", "Highest shared memory and tmpfs seen.", nullable=True),
    count("swap_peak_bytes", "Highest swap.", nullable=True),
    count("pids_peak", "Largest number of processes and threads at one time.", nullable=True),
    count("oom_kills", "Processes that the kernel killed for lack of memory.", nullable=True),
    count("pids_limit_hits", "Forks refused by the pids limit.", nullable=True),
    count("throttled_periods", "Scheduler periods in which the test was throttled.", nullable=True),
    real("throttled_seconds", "Time for which the CPU limit throttled the test.", nullable=True),
    count("read_bytes", "Bytes read from block devices.", nullable=True),
    count("write_bytes", "Bytes written to block devices.", nullable=True),
    flag(
        "memory_peak_is_upper_bound",
        "True where memory_peak_bytes is an upper bound: the peak may be from before the test.",
    ),
    sa.Column(
        "memory_peak_is_lower_bound",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="True where memory_peak_bytes is a lower bound: page cache was charged at the peak.",
    ),
    text("usage_sheet_id", "fact_sheets.id: source of each figure, reason of each missing one.", nullable=True),
    sa.Column(
        "slot_position",
        sa.BigInteger,
        nullable=False,
        server_default="1",
        comment="1 for the first test of its container, 2 for the second, …",
    ),
    sa.Column(
        "launch",
        sa.Text,
        nullable=False,
        server_default="process",
        comment="process: the test ran as a separate program; forked: from a preloaded runner.",
    ),
    text(
        "unclean",
        "What the test left or changed in its container, or that it failed in a reused one and passed in a fresh "
        "one; NULL: neither. `reuse: auto` gives such a test a fresh container.",
        nullable=True,
    ),
    text("container_name", "Name of the container; NULL: there was none.", nullable=True),
    text("container_id", "Engine's ID of the container.", nullable=True),
    text("image_id", "ID of the image it was made from.", nullable=True),
    text("attestation_sheet_id", "fact_sheets.id: the properties read back from the container.", nullable=True),
    count("stdout_bytes", "Bytes the test wrote to stdout."),
    count("stdout_kept_bytes", "Bytes of stdout that were kept."),
    count("stderr_bytes", "Bytes the test wrote to stderr."),
    count("stderr_kept_bytes", "Bytes of stderr that were kept."),
    count("outputs_count", "Number of files that were copied from the output folder."),
    flag("is_final", "True if this attempt decided the test's result in this run."),
    text("test_outcome", "Outcome of the test as a whole; NULL unless final.", nullable=True),
    text("verb", "Status word shown before the test's line; NULL unless final.", nullable=True),
    flag("is_flaky", "True if the test passed and failed in this run; NULL unless final.", nullable=True),
    sa.UniqueConstraint("run_id", "test_id", "repetition", "attempt"),
    sa.Index(None, "started_at"),
    comment="One row for each attempt of a test: verdict, limits, usage, container.",
)

sa.Index(
    "uq_attempts_final",
    attempts.c.run_id,
    attempts.c.test_id,
    attempts.c.repetition,
    unique=True,
    sqlite_where=sa.text("is_final"),
)
NOT_PASSED = sa.text("outcome != 'passed'")
"""The condition of the partial index below. SQLite uses the index only for a query with exactly this text, without
a parameter.
"""

# Finds the tests that failed at all without reading the attempts that passed.
sa.Index(
    "ix_attempts_not_passed",
    attempts.c.test_id,
    attempts.c.started_at,
    attempts.c.outcome,  # otherwise SQLite uses the larger index, which has this column
    sqlite_where=NOT_PASSED,
)
# Finds the tests that need a fresh container without reading other attempts.
sa.Index(
    "ix_attempts_unclean",
    attempts.c.test_id,
    attempts.c.started_at,
    attempts.c.unclean,
    sqlite_where=sa.text("unclean IS NOT NULL"),
)
# Offenders, usage reports and histories read only these columns, not a million wide rows.
sa.Index(
    "ix_attempts_figures",
    attempts.c.test_id,
    attempts.c.started_at,
    attempts.c.outcome,
    attempts.c.test_seconds,
    attempts.c.cpu_seconds,
    attempts.c.memory_peak_bytes,
    attempts.c.memory_peak_is_upper_bound,
    attempts.c.limit_memory_bytes,
    attempts.c.is_final,
    attempts.c.is_flaky,
)

cases = sa.Table(
    "cases",
    metadata,
    reference("attempt_id", "attempts.id", "The attempt.", primary_key=True),
    count("position", "Place in the runner's report, from 0.", primary_key=True),
    text("name", "Name as the runner reported it."),
    text("outcome", "passed, failed, error, skipped or xfailed."),
    real("duration_seconds", "Duration measured by the runner; NULL: not measured.", nullable=True),
    text("message", "The runner's message; empty for a pass."),
    comment="Cases inside a test, from its JUnit or TAP report.",
)

violations = sa.Table(
    "violations",
    metadata,
    reference("attempt_id", "attempts.id", "The attempt.", primary_key=True),
    count("position", "Place in the list, from 0.", primary_key=True),
    text("kind", "Kind of violation, such as memory-near or process-leak."),
    text("severity", "notice, warning or error."),
    real("measured", "Measured value, in `unit`."),
    real("limit_value", "Allowed value, in `unit`."),
    text("unit", "bytes, seconds, count or ratio."),
    text("message", "One sentence for the user."),
    text("test_id", "tests.id of the attempt. This and the next two columns repeat columns of the attempt."),
    moment("started_at", "Start of the test itself, after the container was ready."),
    flag("is_final", "True if the attempt decided the test's result in its run."),
    sa.Index(None, "started_at"),
    comment="Violations: budgets that attempts exceeded.",
)

samples = sa.Table(
    "samples",
    metadata,
    reference("attempt_id", "attempts.id", "The attempt.", primary_key=True),
    count("samples_count", "Number of points."),
    blob(
        "series",
        'Zlib-compressed JSON: {"at_seconds": […], "memory_bytes": […], …}, one list a figure, all of '
        "samples_count values; figures that were never measured are left out.",
        nullable=False,
    ),
    comment="Time series of an attempt, packed into one value.",
)

identity = sa.Table(
    "identity",
    metadata,
    uuid_key("UUID that identifies the origin of runs and daily figures after databases are merged."),
    comment="The identity of this database: one row.",
)

stale_days = sa.Table(
    "stale_days",
    metadata,
    text("day", "A day (UTC), `2026-03-01`.", primary_key=True),
    comment="Days whose attempts are not all in daily_usage: today, and days with late attempts.",
)

OUTCOMES = ("passed", "failed", "timeout", "oom", "crashed", "infra", "interrupted", "skipped")

DAILY_FIGURES = {
    "memory_bytes": "highest memory",
    "cpu_seconds": "CPU time",
    "test_seconds": "duration",
    "memory_ratio": "memory over its limit",
    "time_ratio": "duration over its limit",
    "pids": "most processes and threads",
    "throttled_seconds": "time throttled by the CPU limit",
    "anon_bytes": "highest anonymous memory",
    "shmem_bytes": "highest shared memory and tmpfs",
    "read_bytes": "bytes read from block devices",
    "write_bytes": "bytes written to block devices",
    "output_bytes": "bytes printed",
}
"""The description of each figure that is summed up by day, by the beginning of its columns' names."""


def _daily_columns() -> list[sa.Column[Any]]:
    columns = [count(name, f"Attempts that ended as {name}.") for name in OUTCOMES]
    for name, what in DAILY_FIGURES.items():
        columns += [
            count(f"{name}_count", f"Number of judged attempts with this figure: {what}."),
            real(f"{name}_sum", "Sum of these figures; NULL: there are none.", nullable=True),
            real(f"{name}_min", "Lowest of these figures.", nullable=True),
            real(f"{name}_max", "Highest of these figures.", nullable=True),
            blob(f"{name}_sketch", "Distribution of these figures, within 0.05 % (see quantile_sketch.py)."),
        ]
    return columns


daily_usage = sa.Table(
    "daily_usage",
    metadata,
    reference("test_id", "tests.id", "The test.", primary_key=True),
    text("day", "The day (UTC) its attempts began on, `2026-03-01`.", primary_key=True),
    text("origin", "identity.id of the database that recorded them; empty: this one.", primary_key=True),
    count("attempts", "Attempts of that day."),
    count("flaky", "Results that passed and failed in one run."),
    count("violations", "Violations of final attempts."),
    *_daily_columns(),
    sa.Index(None, "day"),
    comment="Sums of each test's attempts of one day; kept when the attempts are deleted.",
    sqlite_with_rowid=False,
)
"""The rows are stored in order of tests, because reports over a year read one test after the other."""


def tell_postgresql() -> None:
    """Set the conditions of partial indexes for PostgreSQL too. It is a function because the option alone makes
    SQLAlchemy import that dialect with all its drivers, at each start of orch.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            condition = index.dialect_options["sqlite"]["where"]
            if condition is not None:
                index.dialect_kwargs["postgresql_where"] = condition


@sa.event.listens_for(metadata, "before_create")
def _before_create(_metadata: sa.MetaData, connection: sa.Connection, **_options: object) -> None:
    if connection.dialect.name == "postgresql":
        tell_postgresql()
