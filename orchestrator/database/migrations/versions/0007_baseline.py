"""The schema at revision 7, with which every database begins that is upgraded: nothing older was ever released.

New databases do not come this way: they are created from `schema/tables.py`. Views are created by revision 8.
"""

import re
import uuid

from alembic import op

revision = "0007"
down_revision = None
branch_labels = None
depends_on = None

_FIGURES = (
    "memory_bytes",
    "cpu_seconds",
    "test_seconds",
    "memory_ratio",
    "time_ratio",
    "pids",
    "throttled_seconds",
    "anon_bytes",
    "shmem_bytes",
    "read_bytes",
    "write_bytes",
    "output_bytes",
)
_DAILY_COLUMNS = "{0}_count BIGINT NOT NULL, {0}_sum DOUBLE, {0}_min DOUBLE, {0}_max DOUBLE, {0}_sketch BLOB, "
_MONTHLY_COLUMNS = "{0}_sum DOUBLE, {0}_maxima BLOB, {0}_sketch BLOB, "
_POSTGRESQL_TYPES = {
    "DOUBLE": "DOUBLE PRECISION",
    "DATETIME": "TIMESTAMP WITH TIME ZONE",
    "BLOB": "BYTEA",
    " WITHOUT ROWID": "",
}
_STATEMENTS = """
CREATE TABLE hosts (
    id TEXT NOT NULL, machine_id TEXT NOT NULL, cpus DOUBLE NOT NULL, memory_bytes BIGINT NOT NULL,
    kernel TEXT NOT NULL, python TEXT NOT NULL,
    CONSTRAINT pk_hosts PRIMARY KEY (id)
);
CREATE TABLE runs (
    id TEXT NOT NULL, started_at DATETIME NOT NULL, status TEXT NOT NULL, owner TEXT, argv JSON NOT NULL,
    project TEXT NOT NULL, config_digest TEXT NOT NULL, orch_version TEXT NOT NULL, host_id TEXT NOT NULL,
    engine_name TEXT NOT NULL, engine_version TEXT NOT NULL, engine JSON NOT NULL, revision TEXT,
    branch TEXT, dirty BOOLEAN, planned_count BIGINT NOT NULL, planned BLOB, exit_code BIGINT,
    duration_seconds DOUBLE, counts JSON, origin TEXT, samples_kept TEXT DEFAULT 'full' NOT NULL,
    CONSTRAINT pk_runs PRIMARY KEY (id),
    CONSTRAINT fk_runs_host_id_hosts FOREIGN KEY(host_id) REFERENCES hosts (id) ON DELETE CASCADE
);
CREATE TABLE images (
    run_id TEXT NOT NULL, name TEXT NOT NULL, image_id TEXT NOT NULL,
    CONSTRAINT pk_images PRIMARY KEY (run_id, name),
    CONSTRAINT fk_images_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE TABLE ledger (
    run_id TEXT NOT NULL, expected_containers BIGINT NOT NULL, created_containers BIGINT NOT NULL,
    removed_containers BIGINT NOT NULL, left_objects JSON NOT NULL, unexpected_objects JSON NOT NULL,
    CONSTRAINT pk_ledger PRIMARY KEY (run_id),
    CONSTRAINT fk_ledger_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE TABLE tests (
    id TEXT NOT NULL, project TEXT NOT NULL, path TEXT NOT NULL, case_name TEXT,
    CONSTRAINT pk_tests PRIMARY KEY (id)
);
CREATE TABLE fact_sheets (
    id TEXT NOT NULL, kind TEXT NOT NULL, facts JSON NOT NULL,
    CONSTRAINT pk_fact_sheets PRIMARY KEY (id)
);
CREATE TABLE attempts (
    id TEXT NOT NULL, run_id TEXT NOT NULL, test_id TEXT NOT NULL, suite TEXT NOT NULL,
    repetition BIGINT NOT NULL, attempt BIGINT NOT NULL, profile TEXT NOT NULL, reason TEXT NOT NULL,
    clamped JSON, outcome TEXT NOT NULL, message TEXT NOT NULL, exit_code BIGINT, signal BIGINT,
    witnesses BIGINT NOT NULL, started_at DATETIME NOT NULL, queue_seconds DOUBLE NOT NULL,
    create_seconds DOUBLE NOT NULL, start_seconds DOUBLE NOT NULL, test_seconds DOUBLE NOT NULL,
    teardown_seconds DOUBLE NOT NULL, limit_cpus DOUBLE NOT NULL, limit_memory_bytes BIGINT NOT NULL,
    limit_timeout_seconds DOUBLE NOT NULL, limit_tmpfs_bytes BIGINT NOT NULL,
    limit_tmpfs_inodes BIGINT NOT NULL, limit_outputs_bytes BIGINT NOT NULL, limit_shm_bytes BIGINT NOT NULL,
    limit_pids BIGINT NOT NULL, limit_nofile BIGINT NOT NULL, limit_log_bytes BIGINT NOT NULL,
    cpu_seconds DOUBLE, cpu_user_seconds DOUBLE, cpu_system_seconds DOUBLE, memory_peak_bytes BIGINT,
    memory_floor_bytes BIGINT, anon_peak_bytes BIGINT, file_peak_bytes BIGINT, shmem_peak_bytes BIGINT,
    swap_peak_bytes BIGINT, pids_peak BIGINT, oom_kills BIGINT, pids_limit_hits BIGINT,
    throttled_periods BIGINT, throttled_seconds DOUBLE, read_bytes BIGINT, write_bytes BIGINT,
    memory_peak_is_upper_bound BOOLEAN NOT NULL, usage_sheet_id TEXT,
    slot_position BIGINT DEFAULT '1' NOT NULL, launch TEXT DEFAULT 'process' NOT NULL, container_name TEXT,
    container_id TEXT, image_id TEXT, attestation_sheet_id TEXT, stdout_bytes BIGINT NOT NULL,
    stdout_kept_bytes BIGINT NOT NULL, stderr_bytes BIGINT NOT NULL, stderr_kept_bytes BIGINT NOT NULL,
    outputs_count BIGINT NOT NULL, is_final BOOLEAN NOT NULL, test_outcome TEXT, verb TEXT, is_flaky BOOLEAN,
    CONSTRAINT pk_attempts PRIMARY KEY (id),
    CONSTRAINT uq_attempts_run_id_test_id_repetition_attempt UNIQUE (run_id, test_id, repetition, attempt),
    CONSTRAINT fk_attempts_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT fk_attempts_test_id_tests FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE
);
CREATE TABLE cases (
    attempt_id TEXT NOT NULL, position BIGINT NOT NULL, name TEXT NOT NULL, outcome TEXT NOT NULL,
    duration_seconds DOUBLE, message TEXT NOT NULL,
    CONSTRAINT pk_cases PRIMARY KEY (attempt_id, position),
    CONSTRAINT fk_cases_attempt_id_attempts FOREIGN KEY(attempt_id) REFERENCES attempts (id) ON DELETE CASCADE
);
CREATE TABLE violations (
    attempt_id TEXT NOT NULL, position BIGINT NOT NULL, kind TEXT NOT NULL, severity TEXT NOT NULL,
    measured DOUBLE NOT NULL, limit_value DOUBLE NOT NULL, unit TEXT NOT NULL, message TEXT NOT NULL,
    test_id TEXT NOT NULL, started_at DATETIME NOT NULL, is_final BOOLEAN NOT NULL,
    CONSTRAINT pk_violations PRIMARY KEY (attempt_id, position),
    CONSTRAINT fk_violations_attempt_id_attempts FOREIGN KEY(attempt_id) REFERENCES attempts (id) ON DELETE CASCADE
);
CREATE TABLE samples (
    attempt_id TEXT NOT NULL, samples_count BIGINT NOT NULL, series BLOB NOT NULL,
    CONSTRAINT pk_samples PRIMARY KEY (attempt_id),
    CONSTRAINT fk_samples_attempt_id_attempts FOREIGN KEY(attempt_id) REFERENCES attempts (id) ON DELETE CASCADE
);
CREATE TABLE identity (
    id TEXT NOT NULL,
    CONSTRAINT pk_identity PRIMARY KEY (id)
);
CREATE TABLE stale_days (
    day TEXT NOT NULL,
    CONSTRAINT pk_stale_days PRIMARY KEY (day)
);
CREATE TABLE daily_usage (
    test_id TEXT NOT NULL, day TEXT NOT NULL, origin TEXT NOT NULL, attempts BIGINT NOT NULL,
    flaky BIGINT NOT NULL, violations BIGINT NOT NULL, passed BIGINT NOT NULL, failed BIGINT NOT NULL,
    timeout BIGINT NOT NULL, oom BIGINT NOT NULL, crashed BIGINT NOT NULL, infra BIGINT NOT NULL,
    interrupted BIGINT NOT NULL, skipped BIGINT NOT NULL, %DAILY_FIGURES%
    CONSTRAINT pk_daily_usage PRIMARY KEY (test_id, day, origin),
    CONSTRAINT fk_daily_usage_test_id_tests FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE monthly_usage (
    test_id TEXT NOT NULL, month TEXT NOT NULL, %MONTHLY_FIGURES%
    CONSTRAINT pk_monthly_usage PRIMARY KEY (test_id, month),
    CONSTRAINT fk_monthly_usage_test_id_tests FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE summed_months (
    month TEXT NOT NULL,
    CONSTRAINT pk_summed_months PRIMARY KEY (month)
);
CREATE INDEX ix_attempts_figures ON attempts (test_id, started_at, outcome, test_seconds, cpu_seconds,
    memory_peak_bytes, limit_memory_bytes, is_final, is_flaky);
CREATE INDEX ix_attempts_not_passed ON attempts (test_id, started_at, outcome) WHERE outcome != 'passed';
CREATE INDEX ix_attempts_started_at ON attempts (started_at);
CREATE INDEX ix_daily_usage_day ON daily_usage (day);
CREATE INDEX ix_runs_started_at ON runs (started_at);
CREATE INDEX ix_tests_path_case_name ON tests (path, case_name);
CREATE INDEX ix_violations_started_at ON violations (started_at);
CREATE UNIQUE INDEX uq_attempts_final ON attempts (run_id, test_id, repetition) WHERE is_final
"""


def upgrade() -> None:
    sqlite = op.get_context().dialect.name == "sqlite"
    statements = _STATEMENTS.replace("%DAILY_FIGURES%", _for_each_figure(_DAILY_COLUMNS))
    statements = statements.replace("%MONTHLY_FIGURES%", _for_each_figure(_MONTHLY_COLUMNS))
    for statement in statements.strip().split(";\n"):
        op.get_bind().exec_driver_sql(statement if sqlite else _for_postgresql(statement))
    op.execute(f"INSERT INTO identity (id) VALUES ('{uuid.uuid4()}')")


def _for_each_figure(columns: str) -> str:
    return "".join(columns.format(figure) for figure in _FIGURES)


def _for_postgresql(statement: str) -> str:
    words = "|".join(rf"{word}\b" for word in _POSTGRESQL_TYPES)
    return re.sub(words, lambda found: _POSTGRESQL_TYPES[found.group()], statement)
