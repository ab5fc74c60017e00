"""No report of an earlier run is left to be taken for that of a run that failed to begin (CASES A7)."""

import os
import stat

import pytest

from orchestrator import cli
from orchestrator.coordinator.earlier_reports import remove_earlier_reports, remove_reports_named_in
from orchestrator.errors import UsageError
from orchestrator.files import replace_file
from orchestrator.reports.formats.ctrf import CtrfReport
from orchestrator.reports.formats.gitlab import Metrics
from orchestrator.reports.formats.junit import JUnitReport
from orchestrator.reports.formats.sarif import write_sarif
from tests.unit.reports.conftest import result, summary

REPORTS = {
    "junit": [b"\xef\xbb\xbf<?xml version='1.0'?>\n<testsuites/>", b"<testsuite name='a'/>", b"", b"\n"],
    "sarif": [b'{\n  "$schema": "https://json.schemastore.org/sarif-2.1.0.json"}'],
    "ctrf": [b'{"reportFormat": "CTRF"}'],
    "gitlab_metrics": [b"# TYPE a gauge\na 1\n# EOF\n"],
    "html": [b"<!DOCTYPE html>\n<html><head>"],
    "prometheus": [b"# HELP a b\n# TYPE a gauge\n"],
}


@pytest.mark.parametrize(("option", "content"), [(o, c) for o, many in REPORTS.items() for c in many])
def test_a_report_is_removed(tmp_path, option, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    remove_earlier_reports({option: path, "junit_not": path, "config_path": path})
    assert not path.exists()
    remove_earlier_reports({option: path})
    path.touch()
    remove_earlier_reports({option: path / "below" / "a file"})
    assert path.exists()


@pytest.mark.parametrize("option", REPORTS)
@pytest.mark.parametrize(
    "content", [b"def test_a(): pass\n", b"\0\1", b"<html>", b'{"a": 1}', b"#!/bin/sh\n# it\n"]
)
def test_what_is_no_report_stays_and_is_refused(tmp_path, option, content):
    path = tmp_path / "test_a.py"
    path.write_bytes(content)
    flag = "--" + option.replace("_", "-")
    with pytest.raises(UsageError, match=f"{flag} .*test_a.py: this file exists and is not a report"):
        remove_earlier_reports({option: path})
    remove_reports_named_in(["run", flag, str(path)])
    assert path.read_bytes() == content


def test_what_orch_writes_is_known_again(tmp_path):
    reports = {"junit": JUnitReport(tmp_path), "ctrf": CtrfReport(tmp_path), "gitlab_metrics": Metrics()}
    one = result("a.py")
    for name, report in reports.items():
        report.add([one])
        report.write(summary(one), tmp_path / name)
    write_sarif((), tmp_path / "sarif", project="p")
    remove_earlier_reports({name: tmp_path / name for name in (*reports, "sarif")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused_and_a_device_or_pipe_stays(tmp_path):
    with pytest.raises(UsageError, match="this is a folder"):
        remove_earlier_reports({"junit": tmp_path})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    remove_earlier_reports({"junit": pipe})
    replace_file(pipe, [b"a", b"b"])
    assert os.read(reader, 10) == b"ab"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)
    (tmp_path / "null").symlink_to("/dev/null")
    replace_file(tmp_path / "null", b"a")
    assert (tmp_path / "null").is_symlink()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "--junit", "j.xml", "--no-such-flag"], 2),
        (["run", "--retries", "x", "--junit=j.xml"], 2),
        (["run", "--junit", "j.xml", "--preset", "none"], 2),
        (["run", "--junit", "j.xml", "-j", "many"], 2),
        (["run", "--junit", "j.xml", "test/none.py"], 4),
        (["run", "--junit", "j.xml"], 4),
        (["run", "--junit", "j.xml", "--no-tests", "pass"], 0),
        (["run", "--junit", "j.xml", "--rerun", "latest"], 2),
        (["run", "--preset", "ci", "-j", "many"], 2),
        (["run", "--dry-run", "--junit", "j.xml", "a.sh"], 0),
    ],
)
def test_whatever_ends_a_run_the_report_is_not_the_old_one(tmp_path, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "profiles.yaml").write_text(
        'version: 1\npresets: {ci: ["--junit j.xml"]}\nsuites: [{name: s, match: ["*.sh"], runner: shell}]\n'
    )
    if "a.sh" in words:
        (tmp_path / "a.sh").touch()
    (tmp_path / "j.xml").write_text("<testsuites/>")
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == code
    assert (tmp_path / "j.xml").exists() == ("--dry-run" in words)
