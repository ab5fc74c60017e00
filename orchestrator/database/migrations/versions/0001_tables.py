"""Tables: the first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fact_sheets",
        sa.Column("id", sa.Text(), nullable=False, comment="UUID made from the content."),
        sa.Column("kind", sa.Text(), nullable=False, comment="usage (sources and missing) or attestation."),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False, comment="The facts, as a JSON object."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fact_sheets")),
        comment="Facts that are the same for a great many attempts, kept once.",
    )
    op.create_table(
        "hosts",
        sa.Column(
            "id",
            sa.Text(),
            nullable=False,
            comment="UUID made from the other columns: a machine that changes gets a new row.",
        ),
        sa.Column(
            "machine_id",
            sa.Text(),
            nullable=False,
            comment="Digest of the machine id: tells machines apart without naming them.",
        ),
        sa.Column(
            "cpus",
            sa.Double(),
            nullable=False,
            comment="CPUs that orch was granted there (affinity and cgroup quota).",
        ),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False, comment="Memory that orch was granted there."),
        sa.Column("kernel", sa.Text(), nullable=False, comment="Kernel release."),
        sa.Column("python", sa.Text(), nullable=False, comment="Version of the Python that ran orch."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
        comment="Machines that runs happened on, as they were.",
    )
    op.create_table(
        "tests",
        sa.Column(
            "id",
            sa.Text(),
            nullable=False,
            comment="UUID made from the other columns: the same test has the same key in every database.",
        ),
        sa.Column("project", sa.Text(), nullable=False, comment="The project the test belongs to."),
        sa.Column("path", sa.Text(), nullable=False, comment="POSIX path relative to the project's root."),
        sa.Column(
            "case_name",
            sa.Text(),
            nullable=True,
            comment="Runner's own name of a case inside the file; NULL: the whole file.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tests")),
        comment="Every test that was ever recorded.",
    )
    op.create_index(op.f("ix_tests_path_case_name"), "tests", ["path", "case_name"], unique=False)
    op.create_table(
        "runs",
        sa.Column(
            "id", sa.Text(), nullable=False, comment="UUID; its first 8 digits are what users read and type."
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="When the run began."),
        sa.Column("status", sa.Text(), nullable=False, comment="running, finished or interrupted."),
        sa.Column(
            "owner",
            sa.Text(),
            nullable=True,
            comment="Token of the orch process that writes this run; tells a dead one's runs.",
        ),
        sa.Column(
            "argv",
            sa.JSON(none_as_null=True),
            nullable=False,
            comment="The command line as typed, passwords and tokens replaced by ***.",
        ),
        sa.Column("project", sa.Text(), nullable=False, comment="The project whose tests these are."),
        sa.Column("config_digest", sa.Text(), nullable=False, comment="Digest of the effective configuration."),
        sa.Column("orch_version", sa.Text(), nullable=False, comment="Version of orch."),
        sa.Column("host_id", sa.Text(), nullable=False, comment="The machine orch ran on."),
        sa.Column("engine_name", sa.Text(), nullable=False, comment="docker or podman."),
        sa.Column("engine_version", sa.Text(), nullable=False, comment="The engine's version."),
        sa.Column(
            "engine",
            sa.JSON(none_as_null=True),
            nullable=False,
            comment="All that the engine said of itself (EngineInfo).",
        ),
        sa.Column("revision", sa.Text(), nullable=True, comment="Revision of the project's source."),
        sa.Column("branch", sa.Text(), nullable=True, comment="Branch of the project's source."),
        sa.Column(
            "dirty",
            sa.Boolean(),
            nullable=True,
            comment="Whether the source had changes that are in no revision.",
        ),
        sa.Column(
            "planned_count",
            sa.BigInteger(),
            nullable=False,
            comment="Tests times repetitions that were planned.",
        ),
        sa.Column(
            "planned",
            sa.LargeBinary(),
            nullable=True,
            comment="Planned tests: zlib-compressed JSON, [[path, case or null, repetition], …].",
        ),
        sa.Column(
            "exit_code",
            sa.BigInteger(),
            nullable=True,
            comment="What orch exited with; NULL until the run ended.",
        ),
        sa.Column(
            "duration_seconds", sa.Double(), nullable=True, comment="Length of the run; NULL until it ended."
        ),
        sa.Column(
            "counts",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="Tests per outcome, and tests, flaky, violations; NULL until the run ended.",
        ),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_runs_host_id_hosts"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        comment="One row for each call of `orch run`.",
    )
    op.create_index(op.f("ix_runs_started_at"), "runs", ["started_at"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text(), nullable=False, comment="UUID of the attempt."),
        sa.Column("run_id", sa.Text(), nullable=False, comment="The run it belongs to."),
        sa.Column("test_id", sa.Text(), nullable=False, comment="The test that ran."),
        sa.Column("suite", sa.Text(), nullable=False, comment="Suite that found the test."),
        sa.Column("repetition", sa.BigInteger(), nullable=False, comment="1 to N of --repeat N."),
        sa.Column(
            "attempt",
            sa.BigInteger(),
            nullable=False,
            comment="1 for the first, then one more for each retry or promotion.",
        ),
        sa.Column("profile", sa.Text(), nullable=False, comment="Profile it ran under."),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why that profile."),
        sa.Column(
            "clamped",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="Notices of limits lowered to what the host has; NULL: none.",
        ),
        sa.Column(
            "outcome",
            sa.Text(),
            nullable=False,
            comment="passed, failed, timeout, oom, crashed, infra, interrupted or skipped.",
        ),
        sa.Column("message", sa.Text(), nullable=False, comment="Why, in one line; empty for a pass."),
        sa.Column(
            "exit_code",
            sa.BigInteger(),
            nullable=True,
            comment="Exit code of the test; NULL: not known, or ended by a signal.",
        ),
        sa.Column("signal", sa.BigInteger(), nullable=True, comment="Signal that ended the test."),
        sa.Column(
            "witnesses",
            sa.BigInteger(),
            nullable=False,
            comment="How many independent witnesses agreed on the end.",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="When the test was released."),
        sa.Column("queue_seconds", sa.Double(), nullable=False, comment="Waiting for a place."),
        sa.Column("create_seconds", sa.Double(), nullable=False, comment="Creating the container."),
        sa.Column("start_seconds", sa.Double(), nullable=False, comment="Starting the container."),
        sa.Column(
            "test_seconds",
            sa.Double(),
            nullable=False,
            comment="The test itself, without queueing and start-up: its duration.",
        ),
        sa.Column("teardown_seconds", sa.Double(), nullable=False, comment="Ending and removing the container."),
        sa.Column("limit_cpus", sa.Double(), nullable=False, comment="Effective limit of CPUs."),
        sa.Column(
            "limit_memory_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="Effective limit of memory (with swap).",
        ),
        sa.Column("limit_timeout_seconds", sa.Double(), nullable=False, comment="Effective deadline."),
        sa.Column("limit_tmpfs_bytes", sa.BigInteger(), nullable=False, comment="Size of /tmp."),
        sa.Column("limit_tmpfs_inodes", sa.BigInteger(), nullable=False, comment="Files that fit in /tmp."),
        sa.Column("limit_outputs_bytes", sa.BigInteger(), nullable=False, comment="Size of the output folder."),
        sa.Column("limit_shm_bytes", sa.BigInteger(), nullable=False, comment="Size of /dev/shm."),
        sa.Column(
            "limit_pids", sa.BigInteger(), nullable=False, comment="Effective limit of processes and threads."
        ),
        sa.Column("limit_nofile", sa.BigInteger(), nullable=False, comment="Effective limit of open files."),
        sa.Column("limit_log_bytes", sa.BigInteger(), nullable=False, comment="Kept bytes of each output stream."),
        sa.Column(
            "cpu_seconds",
            sa.Double(),
            nullable=True,
            comment="CPU time, user and system. This and the following: NULL if not measured.",
        ),
        sa.Column("cpu_user_seconds", sa.Double(), nullable=True, comment="CPU time in user mode."),
        sa.Column("cpu_system_seconds", sa.Double(), nullable=True, comment="CPU time in the kernel."),
        sa.Column(
            "memory_peak_bytes", sa.BigInteger(), nullable=True, comment="Highest memory charged to the test."
        ),
        sa.Column("anon_peak_bytes", sa.BigInteger(), nullable=True, comment="Highest anonymous memory seen."),
        sa.Column("file_peak_bytes", sa.BigInteger(), nullable=True, comment="Highest page cache seen."),
        sa.Column(
            "shmem_peak_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="Highest shared memory and tmpfs seen.",
        ),
        sa.Column("swap_peak_bytes", sa.BigInteger(), nullable=True, comment="Highest swap."),
        sa.Column("pids_peak", sa.BigInteger(), nullable=True, comment="Most processes and threads at once."),
        sa.Column(
            "oom_kills",
            sa.BigInteger(),
            nullable=True,
            comment="Processes the kernel killed for want of memory.",
        ),
        sa.Column("pids_limit_hits", sa.BigInteger(), nullable=True, comment="Forks refused by the pids limit."),
        sa.Column(
            "throttled_periods",
            sa.BigInteger(),
            nullable=True,
            comment="Scheduler periods in which the test was held back.",
        ),
        sa.Column(
            "throttled_seconds",
            sa.Double(),
            nullable=True,
            comment="Time the test was held back by its CPU limit.",
        ),
        sa.Column("read_bytes", sa.BigInteger(), nullable=True, comment="Bytes read from block devices."),
        sa.Column("write_bytes", sa.BigInteger(), nullable=True, comment="Bytes written to block devices."),
        sa.Column(
            "memory_peak_is_upper_bound",
            sa.Boolean(),
            nullable=False,
            comment="True in a reused slot whose kernel cannot reset the peak.",
        ),
        sa.Column(
            "usage_sheet_id",
            sa.Text(),
            nullable=True,
            comment="fact_sheets.id: source of each figure, reason of each missing one.",
        ),
        sa.Column(
            "container_name", sa.Text(), nullable=True, comment="Name of the container; NULL: there was none."
        ),
        sa.Column("container_id", sa.Text(), nullable=True, comment="Engine's ID of the container."),
        sa.Column("image_id", sa.Text(), nullable=True, comment="ID of the image it was made from."),
        sa.Column(
            "attestation_sheet_id",
            sa.Text(),
            nullable=True,
            comment="fact_sheets.id: what was read back of the container.",
        ),
        sa.Column("stdout_bytes", sa.BigInteger(), nullable=False, comment="Bytes the test wrote to stdout."),
        sa.Column("stdout_kept_bytes", sa.BigInteger(), nullable=False, comment="Bytes of them that were kept."),
        sa.Column("stderr_bytes", sa.BigInteger(), nullable=False, comment="Bytes the test wrote to stderr."),
        sa.Column("stderr_kept_bytes", sa.BigInteger(), nullable=False, comment="Bytes of them that were kept."),
        sa.Column(
            "outputs_count",
            sa.BigInteger(),
            nullable=False,
            comment="Files that came back from the output folder.",
        ),
        sa.Column(
            "is_final",
            sa.Boolean(),
            nullable=False,
            comment="Whether this attempt decided the test's result in this run.",
        ),
        sa.Column(
            "test_outcome",
            sa.Text(),
            nullable=True,
            comment="Outcome of the test as a whole; NULL unless final.",
        ),
        sa.Column(
            "verb",
            sa.Text(),
            nullable=True,
            comment="Word shown in front of the test's line; NULL unless final.",
        ),
        sa.Column(
            "is_flaky",
            sa.Boolean(),
            nullable=True,
            comment="Whether the test passed and failed in this run; NULL unless final.",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_attempts_run_id_runs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["test_id"], ["tests.id"], name=op.f("fk_attempts_test_id_tests"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint(
            "run_id",
            "test_id",
            "repetition",
            "attempt",
            name=op.f("uq_attempts_run_id_test_id_repetition_attempt"),
        ),
        comment="One row for each attempt of a test: verdict, limits, usage, container.",
    )
    op.create_index(
        "ix_attempts_figures",
        "attempts",
        [
            "test_id",
            "started_at",
            "outcome",
            "test_seconds",
            "cpu_seconds",
            "memory_peak_bytes",
            "limit_memory_bytes",
        ],
        unique=False,
    )
    op.create_index(op.f("ix_attempts_started_at"), "attempts", ["started_at"], unique=False)
    op.create_index(
        "uq_attempts_final",
        "attempts",
        ["run_id", "test_id", "repetition"],
        unique=True,
        sqlite_where=sa.text("is_final"),
        postgresql_where=sa.text("is_final"),
    )
    op.create_table(
        "images",
        sa.Column("run_id", sa.Text(), nullable=False, comment="The run."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name of the image in the configuration."),
        sa.Column(
            "image_id", sa.Text(), nullable=False, comment="ID the name was pinned to when the run started."
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_images_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_images")),
        comment="Images that runs were pinned to.",
    )
    op.create_table(
        "ledger",
        sa.Column("run_id", sa.Text(), nullable=False, comment="The run."),
        sa.Column(
            "expected_containers",
            sa.BigInteger(),
            nullable=False,
            comment="Containers that the run was expected to create.",
        ),
        sa.Column("created_containers", sa.BigInteger(), nullable=False, comment="Containers that it created."),
        sa.Column("removed_containers", sa.BigInteger(), nullable=False, comment="Containers that it removed."),
        sa.Column(
            "left_objects",
            sa.JSON(none_as_null=True),
            nullable=False,
            comment="Kind and name of each object that was still there at the end.",
        ),
        sa.Column(
            "unexpected_objects",
            sa.JSON(none_as_null=True),
            nullable=False,
            comment="Objects nobody asked for, with the test they belong to.",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_ledger_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_ledger")),
        comment="What each run made, and what was left of it.",
    )
    op.create_table(
        "cases",
        sa.Column("attempt_id", sa.Text(), nullable=False, comment="The attempt."),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="Place in the runner's report, from 0."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name as the runner reported it."),
        sa.Column("outcome", sa.Text(), nullable=False, comment="passed, failed, error, skipped or xfailed."),
        sa.Column(
            "duration_seconds",
            sa.Double(),
            nullable=True,
            comment="As the runner measured it; NULL: it did not.",
        ),
        sa.Column("message", sa.Text(), nullable=False, comment="What the runner said; empty for a pass."),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("fk_cases_attempt_id_attempts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attempt_id", "position", name=op.f("pk_cases")),
        comment="Cases inside a test, from its JUnit or TAP report.",
    )
    op.create_table(
        "samples",
        sa.Column("attempt_id", sa.Text(), nullable=False, comment="The attempt."),
        sa.Column("samples_count", sa.BigInteger(), nullable=False, comment="Number of points."),
        sa.Column(
            "series",
            sa.LargeBinary(),
            nullable=False,
            comment='Zlib-compressed JSON: {"at_seconds": […], "memory_bytes": […], …}, one list a figure, '
            "all of samples_count values; figures that were never measured are left out.",
        ),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("fk_samples_attempt_id_attempts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_samples")),
        comment="Time series of an attempt, packed into one value.",
    )
    op.create_table(
        "violations",
        sa.Column("attempt_id", sa.Text(), nullable=False, comment="The attempt."),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="Place in the list, from 0."),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="Which budget was broken, such as memory-near or process-leak.",
        ),
        sa.Column("severity", sa.Text(), nullable=False, comment="notice, warning or error."),
        sa.Column("measured", sa.Double(), nullable=False, comment="What was measured, in `unit`."),
        sa.Column("limit_value", sa.Double(), nullable=False, comment="What was allowed, in `unit`."),
        sa.Column("unit", sa.Text(), nullable=False, comment="bytes, seconds, count or ratio."),
        sa.Column("message", sa.Text(), nullable=False, comment="One sentence for the user."),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.id"],
            name=op.f("fk_violations_attempt_id_attempts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("attempt_id", "position", name=op.f("pk_violations")),
        comment="Budgets that attempts broke.",
    )
    op.create_index(op.f("ix_violations_kind"), "violations", ["kind"], unique=False)
