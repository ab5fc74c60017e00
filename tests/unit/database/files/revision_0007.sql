PRAGMA user_version = 7;
PRAGMA application_id = 1869767528;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE attempts (
	id TEXT NOT NULL,
	run_id TEXT NOT NULL,
	test_id TEXT NOT NULL,
	suite TEXT NOT NULL,
	repetition BIGINT NOT NULL,
	attempt BIGINT NOT NULL,
	profile TEXT NOT NULL,
	reason TEXT NOT NULL,
	clamped JSON,
	outcome TEXT NOT NULL,
	message TEXT NOT NULL,
	exit_code BIGINT,
	signal BIGINT,
	witnesses BIGINT NOT NULL,
	started_at DATETIME NOT NULL,
	queue_seconds DOUBLE NOT NULL,
	create_seconds DOUBLE NOT NULL,
	start_seconds DOUBLE NOT NULL,
	test_seconds DOUBLE NOT NULL,
	teardown_seconds DOUBLE NOT NULL,
	limit_cpus DOUBLE NOT NULL,
	limit_memory_bytes BIGINT NOT NULL,
	limit_timeout_seconds DOUBLE NOT NULL,
	limit_tmpfs_bytes BIGINT NOT NULL,
	limit_tmpfs_inodes BIGINT NOT NULL,
	limit_outputs_bytes BIGINT NOT NULL,
	limit_shm_bytes BIGINT NOT NULL,
	limit_pids BIGINT NOT NULL,
	limit_nofile BIGINT NOT NULL,
	limit_log_bytes BIGINT NOT NULL,
	cpu_seconds DOUBLE,
	cpu_user_seconds DOUBLE,
	cpu_system_seconds DOUBLE,
	memory_peak_bytes BIGINT,
	memory_floor_bytes BIGINT,
	anon_peak_bytes BIGINT,
	file_peak_bytes BIGINT,
	shmem_peak_bytes BIGINT,
	swap_peak_bytes BIGINT,
	pids_peak BIGINT,
	oom_kills BIGINT,
	pids_limit_hits BIGINT,
	throttled_periods BIGINT,
	throttled_seconds DOUBLE,
	read_bytes BIGINT,
	write_bytes BIGINT,
	memory_peak_is_upper_bound BOOLEAN NOT NULL,
	usage_sheet_id TEXT,
	slot_position BIGINT DEFAULT '1' NOT NULL,
	launch TEXT DEFAULT 'process' NOT NULL,
	container_name TEXT,
	container_id TEXT,
	image_id TEXT,
	attestation_sheet_id TEXT,
	stdout_bytes BIGINT NOT NULL,
	stdout_kept_bytes BIGINT NOT NULL,
	stderr_bytes BIGINT NOT NULL,
	stderr_kept_bytes BIGINT NOT NULL,
	outputs_count BIGINT NOT NULL,
	is_final BOOLEAN NOT NULL,
	test_outcome TEXT,
	verb TEXT,
	is_flaky BOOLEAN,
	CONSTRAINT pk_attempts PRIMARY KEY (id),
	CONSTRAINT uq_attempts_run_id_test_id_repetition_attempt UNIQUE (run_id, test_id, repetition, attempt),
	CONSTRAINT fk_attempts_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
	CONSTRAINT fk_attempts_test_id_tests FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE
);
INSERT INTO "attempts" VALUES('01a22ea9-197c-704f-81ec-0407a724051f','4dd4fb19-efed-48d2-a31e-00618b1e4151','6addbc1d-c78d-5c36-9eb4-698a434a5845','unit',1,1,'standard','rule profiles.yaml:3',NULL,'passed','',0,NULL,2,'2026-09-01 03:00:00.000000',1.0,0.01,0.07,0.412,0.02,2.0,536870912,10.0,104857600,10000,67108864,16777216,128,1024,8388608,0.3,0.2,0.1,63963136,NULL,52428800,NULL,NULL,NULL,4,0,NULL,NULL,NULL,NULL,NULL,0,'3ba366db-b7d2-5193-a914-e75af2da7ba5',1,'process','orch-b0b38ba7-1','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','sha256:1234','1643b725-f64e-5ae6-ba91-75b70a3c9906',2000,1000,3,3,1,1,'passed','PASS',0);
INSERT INTO "attempts" VALUES('01a22ea9-1996-7858-a4ec-e055b56f05da','4dd4fb19-efed-48d2-a31e-00618b1e4151','d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','unit',1,1,'standard','rule profiles.yaml:3',NULL,'failed','it failed',1,NULL,2,'2026-09-01 03:00:00.000000',1.0,0.01,0.07,0.412,0.02,2.0,536870912,10.0,104857600,10000,67108864,16777216,128,1024,8388608,0.3,0.2,0.1,63963136,NULL,52428800,NULL,NULL,NULL,4,0,NULL,NULL,NULL,NULL,NULL,0,'3ba366db-b7d2-5193-a914-e75af2da7ba5',1,'process','orch-b0b38ba7-1','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','sha256:1234','1643b725-f64e-5ae6-ba91-75b70a3c9906',2000,1000,3,3,1,1,'failed','FAIL',0);
INSERT INTO "attempts" VALUES('01a22ea9-19f0-75af-9b2d-56af5ba9a12f','02e1afcd-7cab-48e4-858b-19733d12d322','6addbc1d-c78d-5c36-9eb4-698a434a5845','unit',1,1,'standard','rule profiles.yaml:3',NULL,'passed','',0,NULL,2,'2026-11-20 03:00:00.000000',1.0,0.01,0.07,0.412,0.02,2.0,536870912,10.0,104857600,10000,67108864,16777216,128,1024,8388608,0.3,0.2,0.1,63963136,NULL,52428800,NULL,NULL,NULL,4,0,NULL,NULL,NULL,NULL,NULL,0,'3ba366db-b7d2-5193-a914-e75af2da7ba5',1,'process','orch-b0b38ba7-1','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','sha256:1234','1643b725-f64e-5ae6-ba91-75b70a3c9906',2000,1000,3,3,1,1,'passed','PASS',0);
INSERT INTO "attempts" VALUES('01a22ea9-19f9-7395-86fd-c083e3e8c671','02e1afcd-7cab-48e4-858b-19733d12d322','d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','unit',1,1,'standard','rule profiles.yaml:3',NULL,'failed','it failed',1,NULL,2,'2026-11-20 03:00:00.000000',1.0,0.01,0.07,0.412,0.02,2.0,536870912,10.0,104857600,10000,67108864,16777216,128,1024,8388608,0.3,0.2,0.1,63963136,NULL,52428800,NULL,NULL,NULL,4,0,NULL,NULL,NULL,NULL,NULL,0,'3ba366db-b7d2-5193-a914-e75af2da7ba5',1,'process','orch-b0b38ba7-1','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','sha256:1234','1643b725-f64e-5ae6-ba91-75b70a3c9906',2000,1000,3,3,1,1,'failed','FAIL',0);
CREATE TABLE cases (
	attempt_id TEXT NOT NULL,
	position BIGINT NOT NULL,
	name TEXT NOT NULL,
	outcome TEXT NOT NULL,
	duration_seconds DOUBLE,
	message TEXT NOT NULL,
	CONSTRAINT pk_cases PRIMARY KEY (attempt_id, position),
	CONSTRAINT fk_cases_attempt_id_attempts FOREIGN KEY(attempt_id) REFERENCES attempts (id) ON DELETE CASCADE
);
INSERT INTO "cases" VALUES('01a22ea9-197c-704f-81ec-0407a724051f',0,'test_one','passed',0.1,'');
INSERT INTO "cases" VALUES('01a22ea9-197c-704f-81ec-0407a724051f',1,'test_two','xfailed',NULL,'known');
INSERT INTO "cases" VALUES('01a22ea9-1996-7858-a4ec-e055b56f05da',0,'test_one','passed',0.1,'');
INSERT INTO "cases" VALUES('01a22ea9-1996-7858-a4ec-e055b56f05da',1,'test_two','xfailed',NULL,'known');
INSERT INTO "cases" VALUES('01a22ea9-19f0-75af-9b2d-56af5ba9a12f',0,'test_one','passed',0.1,'');
INSERT INTO "cases" VALUES('01a22ea9-19f0-75af-9b2d-56af5ba9a12f',1,'test_two','xfailed',NULL,'known');
INSERT INTO "cases" VALUES('01a22ea9-19f9-7395-86fd-c083e3e8c671',0,'test_one','passed',0.1,'');
INSERT INTO "cases" VALUES('01a22ea9-19f9-7395-86fd-c083e3e8c671',1,'test_two','xfailed',NULL,'known');
CREATE TABLE daily_usage (
	test_id TEXT NOT NULL,
	day TEXT NOT NULL,
	origin TEXT NOT NULL,
	attempts BIGINT NOT NULL,
	flaky BIGINT NOT NULL,
	violations BIGINT NOT NULL,
	passed BIGINT NOT NULL,
	failed BIGINT NOT NULL,
	timeout BIGINT NOT NULL,
	oom BIGINT NOT NULL,
	crashed BIGINT NOT NULL,
	infra BIGINT NOT NULL,
	interrupted BIGINT NOT NULL,
	skipped BIGINT NOT NULL,
	memory_bytes_count BIGINT NOT NULL,
	memory_bytes_sum DOUBLE,
	memory_bytes_min DOUBLE,
	memory_bytes_max DOUBLE,
	memory_bytes_sketch BLOB,
	cpu_seconds_count BIGINT NOT NULL,
	cpu_seconds_sum DOUBLE,
	cpu_seconds_min DOUBLE,
	cpu_seconds_max DOUBLE,
	cpu_seconds_sketch BLOB,
	test_seconds_count BIGINT NOT NULL,
	test_seconds_sum DOUBLE,
	test_seconds_min DOUBLE,
	test_seconds_max DOUBLE,
	test_seconds_sketch BLOB,
	memory_ratio_count BIGINT NOT NULL,
	memory_ratio_sum DOUBLE,
	memory_ratio_min DOUBLE,
	memory_ratio_max DOUBLE,
	memory_ratio_sketch BLOB,
	time_ratio_count BIGINT NOT NULL,
	time_ratio_sum DOUBLE,
	time_ratio_min DOUBLE,
	time_ratio_max DOUBLE,
	time_ratio_sketch BLOB,
	pids_count BIGINT NOT NULL,
	pids_sum DOUBLE,
	pids_min DOUBLE,
	pids_max DOUBLE,
	pids_sketch BLOB,
	throttled_seconds_count BIGINT NOT NULL,
	throttled_seconds_sum DOUBLE,
	throttled_seconds_min DOUBLE,
	throttled_seconds_max DOUBLE,
	throttled_seconds_sketch BLOB,
	anon_bytes_count BIGINT NOT NULL,
	anon_bytes_sum DOUBLE,
	anon_bytes_min DOUBLE,
	anon_bytes_max DOUBLE,
	anon_bytes_sketch BLOB,
	shmem_bytes_count BIGINT NOT NULL,
	shmem_bytes_sum DOUBLE,
	shmem_bytes_min DOUBLE,
	shmem_bytes_max DOUBLE,
	shmem_bytes_sketch BLOB,
	read_bytes_count BIGINT NOT NULL,
	read_bytes_sum DOUBLE,
	read_bytes_min DOUBLE,
	read_bytes_max DOUBLE,
	read_bytes_sketch BLOB,
	write_bytes_count BIGINT NOT NULL,
	write_bytes_sum DOUBLE,
	write_bytes_min DOUBLE,
	write_bytes_max DOUBLE,
	write_bytes_sketch BLOB,
	output_bytes_count BIGINT NOT NULL,
	output_bytes_sum DOUBLE,
	output_bytes_min DOUBLE,
	output_bytes_max DOUBLE,
	output_bytes_sketch BLOB,
	CONSTRAINT pk_daily_usage PRIMARY KEY (test_id, day, origin),
	CONSTRAINT fk_daily_usage_test_id_tests FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "daily_usage" VALUES('6addbc1d-c78d-5c36-9eb4-698a434a5845','2026-09-01','',1,0,1,1,0,0,0,0,0,0,0,1,63963136.0,63963136.0,63963136.0,X'3E7C0100',1,0.3,0.3,0.3,X'4B310100',1,0.412,0.412,0.412,X'88320100',1,0.119140625,0.119140625,0.119140625,X'AF2D0100',1,0.0412,0.0412,0.0412,X'89290100',1,4.0,4.0,4.0,X'6A3B0100',0,NULL,NULL,NULL,NULL,1,52428800.0,52428800.0,52428800.0,X'777B0100',0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,1,2003.0,2003.0,2003.0,X'B6530100');
INSERT INTO "daily_usage" VALUES('6addbc1d-c78d-5c36-9eb4-698a434a5845','2026-11-20','',1,0,1,1,0,0,0,0,0,0,0,1,63963136.0,63963136.0,63963136.0,X'3E7C0100',1,0.3,0.3,0.3,X'4B310100',1,0.412,0.412,0.412,X'88320100',1,0.119140625,0.119140625,0.119140625,X'AF2D0100',1,0.0412,0.0412,0.0412,X'89290100',1,4.0,4.0,4.0,X'6A3B0100',0,NULL,NULL,NULL,NULL,1,52428800.0,52428800.0,52428800.0,X'777B0100',0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,1,2003.0,2003.0,2003.0,X'B6530100');
INSERT INTO "daily_usage" VALUES('d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','2026-09-01','',1,0,1,0,1,0,0,0,0,0,0,1,63963136.0,63963136.0,63963136.0,X'3E7C0100',1,0.3,0.3,0.3,X'4B310100',1,0.412,0.412,0.412,X'88320100',1,0.119140625,0.119140625,0.119140625,X'AF2D0100',1,0.0412,0.0412,0.0412,X'89290100',1,4.0,4.0,4.0,X'6A3B0100',0,NULL,NULL,NULL,NULL,1,52428800.0,52428800.0,52428800.0,X'777B0100',0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,1,2003.0,2003.0,2003.0,X'B6530100');
INSERT INTO "daily_usage" VALUES('d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','2026-11-20','',1,0,1,0,1,0,0,0,0,0,0,1,63963136.0,63963136.0,63963136.0,X'3E7C0100',1,0.3,0.3,0.3,X'4B310100',1,0.412,0.412,0.412,X'88320100',1,0.119140625,0.119140625,0.119140625,X'AF2D0100',1,0.0412,0.0412,0.0412,X'89290100',1,4.0,4.0,4.0,X'6A3B0100',0,NULL,NULL,NULL,NULL,1,52428800.0,52428800.0,52428800.0,X'777B0100',0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,1,2003.0,2003.0,2003.0,X'B6530100');
CREATE TABLE fact_sheets (
	id TEXT NOT NULL,
	kind TEXT NOT NULL,
	facts JSON NOT NULL,
	CONSTRAINT pk_fact_sheets PRIMARY KEY (id)
);
INSERT INTO "fact_sheets" VALUES('3ba366db-b7d2-5193-a914-e75af2da7ba5','usage','{"sources": {"cpu_seconds": "kernel", "memory_peak_bytes": "agent"}, "missing": {"swap_peak_bytes": "swap accounting is off"}}');
INSERT INTO "fact_sheets" VALUES('1643b725-f64e-5ae6-ba91-75b70a3c9906','attestation','{"limits_from_kernel": false, "effective_memory_bytes": 536870912, "effective_cpus": 2.0, "effective_pids": 128, "network": "none", "capabilities": ["SYS_PTRACE"], "seccomp": "0badcafe", "read_only_root": true, "user": "1001:1001", "capabilities_effective": null, "capabilities_bounding": null, "no_new_privileges": null, "seccomp_mode": null, "engine": null, "kernel": null, "cgroup_version": null, "mismatches": []}');
CREATE TABLE hosts (
	id TEXT NOT NULL,
	machine_id TEXT NOT NULL,
	cpus DOUBLE NOT NULL,
	memory_bytes BIGINT NOT NULL,
	kernel TEXT NOT NULL,
	python TEXT NOT NULL,
	CONSTRAINT pk_hosts PRIMARY KEY (id)
);
INSERT INTO "hosts" VALUES('b2cff75b-c1b3-59fc-8d97-4c040215a8e8','abc123',2.0,23622320128,'5.10','3.11.2');
CREATE TABLE identity (
	id TEXT NOT NULL,
	CONSTRAINT pk_identity PRIMARY KEY (id)
);
INSERT INTO "identity" VALUES('ccbd9b63-419c-48c7-a862-0030a1f4f403');
CREATE TABLE images (
	run_id TEXT NOT NULL,
	name TEXT NOT NULL,
	image_id TEXT NOT NULL,
	CONSTRAINT pk_images PRIMARY KEY (run_id, name),
	CONSTRAINT fk_images_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "images" VALUES('4dd4fb19-efed-48d2-a31e-00618b1e4151','isolation','sha256:1234');
INSERT INTO "images" VALUES('02e1afcd-7cab-48e4-858b-19733d12d322','isolation','sha256:1234');
CREATE TABLE ledger (
	run_id TEXT NOT NULL,
	expected_containers BIGINT NOT NULL,
	created_containers BIGINT NOT NULL,
	removed_containers BIGINT NOT NULL,
	left_objects JSON NOT NULL,
	unexpected_objects JSON NOT NULL,
	CONSTRAINT pk_ledger PRIMARY KEY (run_id),
	CONSTRAINT fk_ledger_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "ledger" VALUES('4dd4fb19-efed-48d2-a31e-00618b1e4151',2,2,1,'["container x"]','["volume v"]');
INSERT INTO "ledger" VALUES('02e1afcd-7cab-48e4-858b-19733d12d322',2,2,1,'["container x"]','["volume v"]');
CREATE TABLE monthly_usage (
	test_id TEXT NOT NULL,
	month TEXT NOT NULL,
	memory_bytes_sum DOUBLE,
	memory_bytes_maxima BLOB,
	memory_bytes_sketch BLOB,
	cpu_seconds_sum DOUBLE,
	cpu_seconds_maxima BLOB,
	cpu_seconds_sketch BLOB,
	test_seconds_sum DOUBLE,
	test_seconds_maxima BLOB,
	test_seconds_sketch BLOB,
	memory_ratio_sum DOUBLE,
	memory_ratio_maxima BLOB,
	memory_ratio_sketch BLOB,
	time_ratio_sum DOUBLE,
	time_ratio_maxima BLOB,
	time_ratio_sketch BLOB,
	pids_sum DOUBLE,
	pids_maxima BLOB,
	pids_sketch BLOB,
	throttled_seconds_sum DOUBLE,
	throttled_seconds_maxima BLOB,
	throttled_seconds_sketch BLOB,
	anon_bytes_sum DOUBLE,
	anon_bytes_maxima BLOB,
	anon_bytes_sketch BLOB,
	shmem_bytes_sum DOUBLE,
	shmem_bytes_maxima BLOB,
	shmem_bytes_sketch BLOB,
	read_bytes_sum DOUBLE,
	read_bytes_maxima BLOB,
	read_bytes_sketch BLOB,
	write_bytes_sum DOUBLE,
	write_bytes_maxima BLOB,
	write_bytes_sketch BLOB,
	output_bytes_sum DOUBLE,
	output_bytes_maxima BLOB,
	output_bytes_sketch BLOB,
	CONSTRAINT pk_monthly_usage PRIMARY KEY (test_id, month),
	CONSTRAINT fk_monthly_usage_test_id_tests FOREIGN KEY(test_id) REFERENCES tests (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "monthly_usage" VALUES('6addbc1d-c78d-5c36-9eb4-698a434a5845','2026-09',63963136.0,X'0000000000808E41',X'3E7C0100',0.3,X'333333333333D33F',X'4B310100',0.412,X'91ED7C3F355EDA3F',X'88320100',0.119140625,X'000000000080BE3F',X'AF2D0100',0.0412,X'0EBE30992A18A53F',X'89290100',4.0,X'0000000000001040',X'6A3B0100',NULL,NULL,NULL,52428800.0,X'0000000000008941',X'777B0100',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2003.0,X'00000000004C9F40',X'B6530100');
INSERT INTO "monthly_usage" VALUES('d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','2026-09',63963136.0,X'0000000000808E41',X'3E7C0100',0.3,X'333333333333D33F',X'4B310100',0.412,X'91ED7C3F355EDA3F',X'88320100',0.119140625,X'000000000080BE3F',X'AF2D0100',0.0412,X'0EBE30992A18A53F',X'89290100',4.0,X'0000000000001040',X'6A3B0100',NULL,NULL,NULL,52428800.0,X'0000000000008941',X'777B0100',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2003.0,X'00000000004C9F40',X'B6530100');
CREATE TABLE runs (
	id TEXT NOT NULL,
	started_at DATETIME NOT NULL,
	status TEXT NOT NULL,
	owner TEXT,
	argv JSON NOT NULL,
	project TEXT NOT NULL,
	config_digest TEXT NOT NULL,
	orch_version TEXT NOT NULL,
	host_id TEXT NOT NULL,
	engine_name TEXT NOT NULL,
	engine_version TEXT NOT NULL,
	engine JSON NOT NULL,
	revision TEXT,
	branch TEXT,
	dirty BOOLEAN,
	planned_count BIGINT NOT NULL,
	planned BLOB,
	exit_code BIGINT,
	duration_seconds DOUBLE,
	counts JSON,
	origin TEXT,
	samples_kept TEXT DEFAULT 'full' NOT NULL,
	CONSTRAINT pk_runs PRIMARY KEY (id),
	CONSTRAINT fk_runs_host_id_hosts FOREIGN KEY(host_id) REFERENCES hosts (id) ON DELETE CASCADE
);
INSERT INTO "runs" VALUES('4dd4fb19-efed-48d2-a31e-00618b1e4151','2026-09-01 03:00:00.000000','finished',NULL,'["orch", "run", "test/"]','demo','c0ffee','0.1.0','b2cff75b-c1b3-59fc-8d97-4c040215a8e8','docker','20.10.24+dfsg1','{"name": "docker", "version": "20.10.24+dfsg1", "api_version": "1.41", "address": "unix:///var/run/docker.sock", "local": true, "cgroup_version": 1, "cgroup_driver": "cgroupfs", "rootless": false, "cpus": 2, "memory_bytes": 23622320128, "kernel": "5.10", "operating_system": "Debian", "architecture": "x86_64", "storage_driver": "", "memory_limit": true, "cpu_limit": true, "pids_limit": true, "warnings": ["no swap limit"]}','deadbeef','main',0,0,X'1819010200FDFF5B5D011500B9',0,1.5,'{"tests": 2, "flaky": 0, "violations": 2, "passed": 1, "failed": 1, "timeout": 0, "oom": 0, "crashed": 0, "infra": 0, "interrupted": 0, "skipped": 0}',NULL,'full');
INSERT INTO "runs" VALUES('02e1afcd-7cab-48e4-858b-19733d12d322','2026-11-20 03:00:00.000000','finished',NULL,'["orch", "run", "test/"]','demo','c0ffee','0.1.0','b2cff75b-c1b3-59fc-8d97-4c040215a8e8','docker','20.10.24+dfsg1','{"name": "docker", "version": "20.10.24+dfsg1", "api_version": "1.41", "address": "unix:///var/run/docker.sock", "local": true, "cgroup_version": 1, "cgroup_driver": "cgroupfs", "rootless": false, "cpus": 2, "memory_bytes": 23622320128, "kernel": "5.10", "operating_system": "Debian", "architecture": "x86_64", "storage_driver": "", "memory_limit": true, "cpu_limit": true, "pids_limit": true, "warnings": ["no swap limit"]}','deadbeef','main',0,0,X'1819010200FDFF5B5D011500B9',0,1.5,'{"tests": 2, "flaky": 0, "violations": 2, "passed": 1, "failed": 1, "timeout": 0, "oom": 0, "crashed": 0, "infra": 0, "interrupted": 0, "skipped": 0}',NULL,'full');
CREATE TABLE samples (
	attempt_id TEXT NOT NULL,
	samples_count BIGINT NOT NULL,
	series BLOB NOT NULL,
	CONSTRAINT pk_samples PRIMARY KEY (attempt_id),
	CONSTRAINT fk_samples_attempt_id_attempts FOREIGN KEY(attempt_id) REFERENCES attempts (id) ON DELETE CASCADE
);
INSERT INTO "samples" VALUES('01a22ea9-197c-704f-81ec-0407a724051f',5,X'181901860079FF7B2261745F7365636F6E6473223A5B302E302C302E312C302E322C302E332C302E345D2C226D656D6F72795F6279746573223A5B302C343039362C383139322C31323238382C31363338345D2C226370755F7365636F6E6473223A5B302E302C302E30352C302E312C302E31352C302E325D2C2270696473223A5B312C312C312C312C315D7DBB7A2378');
INSERT INTO "samples" VALUES('01a22ea9-1996-7858-a4ec-e055b56f05da',5,X'181901860079FF7B2261745F7365636F6E6473223A5B302E302C302E312C302E322C302E332C302E345D2C226D656D6F72795F6279746573223A5B302C343039362C383139322C31323238382C31363338345D2C226370755F7365636F6E6473223A5B302E302C302E30352C302E312C302E31352C302E325D2C2270696473223A5B312C312C312C312C315D7DBB7A2378');
INSERT INTO "samples" VALUES('01a22ea9-19f0-75af-9b2d-56af5ba9a12f',5,X'181901860079FF7B2261745F7365636F6E6473223A5B302E302C302E312C302E322C302E332C302E345D2C226D656D6F72795F6279746573223A5B302C343039362C383139322C31323238382C31363338345D2C226370755F7365636F6E6473223A5B302E302C302E30352C302E312C302E31352C302E325D2C2270696473223A5B312C312C312C312C315D7DBB7A2378');
INSERT INTO "samples" VALUES('01a22ea9-19f9-7395-86fd-c083e3e8c671',5,X'181901860079FF7B2261745F7365636F6E6473223A5B302E302C302E312C302E322C302E332C302E345D2C226D656D6F72795F6279746573223A5B302C343039362C383139322C31323238382C31363338345D2C226370755F7365636F6E6473223A5B302E302C302E30352C302E312C302E31352C302E325D2C2270696473223A5B312C312C312C312C315D7DBB7A2378');
CREATE TABLE stale_days (
	day TEXT NOT NULL,
	CONSTRAINT pk_stale_days PRIMARY KEY (day)
);
CREATE TABLE summed_months (
	month TEXT NOT NULL,
	CONSTRAINT pk_summed_months PRIMARY KEY (month)
);
INSERT INTO "summed_months" VALUES('2026-09');
INSERT INTO "summed_months" VALUES('2026-10');
CREATE TABLE tests (
	id TEXT NOT NULL,
	project TEXT NOT NULL,
	path TEXT NOT NULL,
	case_name TEXT,
	CONSTRAINT pk_tests PRIMARY KEY (id)
);
INSERT INTO "tests" VALUES('6addbc1d-c78d-5c36-9eb4-698a434a5845','demo','test/a.py',NULL);
INSERT INTO "tests" VALUES('d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','demo','test/b.py',NULL);
CREATE TABLE violations (
	attempt_id TEXT NOT NULL,
	position BIGINT NOT NULL,
	kind TEXT NOT NULL,
	severity TEXT NOT NULL,
	measured DOUBLE NOT NULL,
	limit_value DOUBLE NOT NULL,
	unit TEXT NOT NULL,
	message TEXT NOT NULL,
	test_id TEXT NOT NULL,
	started_at DATETIME NOT NULL,
	is_final BOOLEAN NOT NULL,
	CONSTRAINT pk_violations PRIMARY KEY (attempt_id, position),
	CONSTRAINT fk_violations_attempt_id_attempts FOREIGN KEY(attempt_id) REFERENCES attempts (id) ON DELETE CASCADE
);
INSERT INTO "violations" VALUES('01a22ea9-197c-704f-81ec-0407a724051f',0,'memory-near','warning',500000000.0,512000000.0,'bytes','used 98 % of its memory','6addbc1d-c78d-5c36-9eb4-698a434a5845','2026-09-01 03:00:00.000000',1);
INSERT INTO "violations" VALUES('01a22ea9-1996-7858-a4ec-e055b56f05da',0,'memory-near','warning',500000000.0,512000000.0,'bytes','used 98 % of its memory','d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','2026-09-01 03:00:00.000000',1);
INSERT INTO "violations" VALUES('01a22ea9-19f0-75af-9b2d-56af5ba9a12f',0,'memory-near','warning',500000000.0,512000000.0,'bytes','used 98 % of its memory','6addbc1d-c78d-5c36-9eb4-698a434a5845','2026-11-20 03:00:00.000000',1);
INSERT INTO "violations" VALUES('01a22ea9-19f9-7395-86fd-c083e3e8c671',0,'memory-near','warning',500000000.0,512000000.0,'bytes','used 98 % of its memory','d03458b0-8884-5cc9-a8b8-aee32f8bfc5f','2026-11-20 03:00:00.000000',1);
CREATE INDEX ix_tests_path_case_name ON tests (path, case_name);
CREATE INDEX ix_runs_started_at ON runs (started_at);
CREATE INDEX ix_daily_usage_day ON daily_usage (day);
CREATE UNIQUE INDEX uq_attempts_final ON attempts (run_id, test_id, repetition) WHERE is_final;
CREATE INDEX ix_attempts_not_passed ON attempts (test_id, started_at, outcome) WHERE outcome != 'passed';
CREATE INDEX ix_attempts_started_at ON attempts (started_at);
CREATE INDEX ix_attempts_figures ON attempts (test_id, started_at, outcome, test_seconds, cpu_seconds, memory_peak_bytes, limit_memory_bytes, is_final, is_flaky);
CREATE INDEX ix_violations_started_at ON violations (started_at);
CREATE VIEW worst_memory AS SELECT t.project, t.path || coalesce('::' || t.case_name, '') AS test, count(*) AS attempts, max(a.memory_peak_bytes) AS memory_peak_bytes, round(max(a.memory_peak_bytes) / 1048576.0, 1) AS memory_peak_mib, max(a.memory_peak_bytes * 1.0 / nullif(a.limit_memory_bytes, 0)) AS memory_ratio, max(a.started_at) AS last_run_at FROM attempts a JOIN tests t ON t.id = a.test_id WHERE a.memory_peak_bytes IS NOT NULL AND a.outcome NOT IN ('infra', 'interrupted', 'skipped') GROUP BY t.id, t.project, t.path, t.case_name ORDER BY 4 DESC;
CREATE VIEW worst_cpu AS SELECT t.project, t.path || coalesce('::' || t.case_name, '') AS test, count(*) AS attempts, max(a.cpu_seconds) AS cpu_seconds, avg(a.cpu_seconds) AS cpu_seconds_mean, max(a.started_at) AS last_run_at FROM attempts a JOIN tests t ON t.id = a.test_id WHERE a.cpu_seconds IS NOT NULL AND a.outcome NOT IN ('infra', 'interrupted', 'skipped') GROUP BY t.id, t.project, t.path, t.case_name ORDER BY 4 DESC;
CREATE VIEW slowest_tests AS SELECT t.project, t.path || coalesce('::' || t.case_name, '') AS test, count(*) AS attempts, max(a.test_seconds) AS duration_seconds, avg(a.test_seconds) AS duration_seconds_mean, max(a.started_at) AS last_run_at FROM attempts a JOIN tests t ON t.id = a.test_id WHERE a.outcome NOT IN ('infra', 'interrupted', 'skipped') GROUP BY t.id, t.project, t.path, t.case_name ORDER BY 4 DESC;
CREATE VIEW flaky_tests AS SELECT t.project, t.path || coalesce('::' || t.case_name, '') AS test, count(*) AS results, sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) AS flaky, round(100.0 * sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) / count(*), 1) AS flaky_percent, max(CASE WHEN a.is_flaky THEN a.started_at END) AS last_flaky_at FROM attempts a JOIN tests t ON t.id = a.test_id WHERE a.is_final GROUP BY t.id, t.project, t.path, t.case_name HAVING sum(CASE WHEN a.is_flaky THEN 1 ELSE 0 END) > 0 ORDER BY 4 DESC;
CREATE VIEW failing_tests AS SELECT t.project, t.path || coalesce('::' || t.case_name, '') AS test, a.test_outcome AS outcome, a.message, a.profile, a.started_at, substr(a.run_id, 1, 8) AS run FROM tests t JOIN attempts a ON a.test_id = t.id AND a.started_at = (SELECT newest.started_at FROM attempts newest WHERE newest.test_id = t.id AND newest.is_final ORDER BY newest.started_at DESC LIMIT 1) WHERE a.is_final AND a.test_outcome NOT IN ('passed', 'skipped') ORDER BY a.started_at DESC;
CREATE VIEW recent_violations AS SELECT v.started_at, v.severity, v.kind, t.project, t.path || coalesce('::' || t.case_name, '') AS test, v.measured, v.limit_value AS allowed, v.unit, v.message, a.profile, substr(a.run_id, 1, 8) AS run FROM violations v JOIN attempts a ON a.id = v.attempt_id JOIN tests t ON t.id = v.test_id WHERE v.is_final ORDER BY v.started_at DESC;
CREATE VIEW runs_overview AS SELECT substr(r.id, 1, 8) AS run, r.started_at, r.status, r.exit_code, r.duration_seconds, r.project, r.branch, r.revision, json_extract(r.counts, '$.tests') AS tests, json_extract(r.counts, '$.passed') AS passed, json_extract(r.counts, '$.failed') AS failed, json_extract(r.counts, '$.timeout') AS timeout, json_extract(r.counts, '$.oom') AS oom, json_extract(r.counts, '$.crashed') AS crashed, json_extract(r.counts, '$.infra') AS infra, json_extract(r.counts, '$.skipped') AS skipped, json_extract(r.counts, '$.flaky') AS flaky, json_extract(r.counts, '$.violations') AS violations, h.cpus AS host_cpus, h.memory_bytes AS host_memory_bytes, r.engine_name, r.engine_version FROM runs r JOIN hosts h ON h.id = r.host_id ORDER BY r.started_at DESC;
CREATE VIEW daily_totals AS SELECT d.day, t.project, count(DISTINCT d.test_id) AS tests, sum(d.attempts) AS attempts, sum(d.failed + d.timeout + d.oom + d.crashed) AS failed_attempts, sum(d.flaky) AS flaky, sum(d.violations) AS violations, sum(d.cpu_seconds_sum) AS cpu_seconds, sum(d.test_seconds_sum) AS duration_seconds, max(d.memory_bytes_max) AS memory_peak_bytes FROM daily_usage d JOIN tests t ON t.id = d.test_id GROUP BY d.day, t.project ORDER BY d.day DESC;
COMMIT;
