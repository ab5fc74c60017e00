import io
import json

import pytest

from orchestrator.config.loader import load_config
from orchestrator.coordinator.options import RunOptions
from orchestrator.coordinator.output.github import COUNTER, GitHub, append_summary
from orchestrator.coordinator.output.run_output import RunOutput
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.errors import UsageError
from orchestrator.measure.sampler import Sampler
from orchestrator.reports.formats.step_summary import LIMIT_BYTES
from tests.unit.reports.conftest import RUN, result, summary


def told(environ, *results, wanted=True, summary_file=None):
    stream = io.StringIO()
    github = GitHub(wanted=wanted, summary_file=summary_file, environ=environ, stream=stream)
    github.suppress_commands()
    stream.write("    | ##[error]a test's own words\n")
    github.add(results)
    github.publish(summary(*results))
    return stream.getvalue().splitlines()


def test_what_tests_print_stands_between_stop_and_resume():
    lines = told({}, result("a.py", "failed"))
    token = lines[0].removeprefix("::stop-commands::")
    assert len(token) == 32
    assert lines[1].startswith("    | ")
    assert lines[2] == f"::{token}::"
    assert lines[3].startswith("::error file=a.py")
    assert told({})[0] != lines[0], "no test can know the token"


def test_off_it_says_nothing():
    assert told({"GITHUB_STEP_SUMMARY": "/nowhere/x"}, result("a.py", "failed"), wanted=False) == [
        "    | ##[error]a test's own words"
    ]


def test_a_job_has_fifty_annotations_whatever_its_steps_do(tmp_path):
    environ = {"RUNNER_TEMP": str(tmp_path)}
    failed = [result(f"{n}.py", "failed") for n in range(12)]
    counts = [sum(line.startswith("::error") for line in told(environ, *failed)) for _ in range(7)]
    assert counts == [10, 10, 10, 10, 10, 0, 0]
    (tmp_path / COUNTER).write_text("47")
    last = [line for line in told(environ, *failed) if line.startswith("::error")]
    assert len(last) == 3
    assert "+10 more" in last[-1]


@pytest.mark.parametrize("content", ["", "many", "-5", "٣"])
def test_a_counter_that_cannot_be_read_counts_from_nothing(tmp_path, content):
    (tmp_path / COUNTER).write_text(content)
    assert told({"RUNNER_TEMP": str(tmp_path)}, result("a.py", "failed"))[-1].startswith("::error")
    assert (tmp_path / COUNTER).read_text() == "1"


def test_the_page_goes_where_github_says_and_is_added_to_what_is_there(tmp_path):
    page = tmp_path / "summary.md"
    page.write_text("# Before\n")
    told({"GITHUB_STEP_SUMMARY": str(page)}, result("a.py", "failed"))
    assert page.read_text().startswith("# Before\n## orch: demo failed\n")


def test_the_option_names_another_file_and_needs_no_github(tmp_path):
    lines = told({}, result("a.py"), wanted=False, summary_file=tmp_path / "new" / "page.md")
    assert len(lines) == 1
    assert "a.py" in (tmp_path / "new" / "page.md").read_text()


@pytest.mark.parametrize("before", [LIMIT_BYTES - 900, LIMIT_BYTES - 10, LIMIT_BYTES + 10])
def test_several_pages_together_stay_within_the_limit(tmp_path, before):
    page = tmp_path / "summary.md"
    page.write_text("x" * before)
    append_summary(summary(*(result(f"{n}.py", "failed") for n in range(100))), [], page)
    assert page.stat().st_size <= max(LIMIT_BYTES, before)


def test_a_page_that_cannot_be_written_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="step summary"):
        append_summary(summary(), [], tmp_path)


# ---------------------------------------------------------------- the run's end, with all its files


def run_ended(tmp_path, options, *results):
    (tmp_path / "profiles.yaml").write_text("version: 1\n")
    config = load_config(path=None, start=tmp_path, env={})
    output = RunOutput(options, config)
    folder = RunFolder(tmp_path / ".orch", RUN)
    progress = output.progress(folder, Sampler())
    progress.start(RUN, [])
    progress.log_events(results)
    progress.finished(results)
    progress.close()
    output.summary(summary(*results))


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP"):
        monkeypatch.delenv(name, raising=False)


def test_on_github_annotations_and_page_come_of_themselves(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    run_ended(tmp_path, RunOptions(), result("a.py", "failed"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("::stop-commands::")
    assert lines[-2].startswith("::")
    assert lines[-1].startswith("::error file=a.py,line=1,title=FAIL a.py::")
    assert (tmp_path / "page.md").read_text().startswith("## orch")


@pytest.mark.parametrize(("variable", "asked"), [("false", None), ("", None), ("true", False)])
def test_elsewhere_and_with_no_github_there_is_none_of_it(tmp_path, monkeypatch, capsys, variable, asked):
    monkeypatch.setenv("GITHUB_ACTIONS", variable)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    run_ended(tmp_path, RunOptions(github=asked), result("a.py", "failed"))
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert not (tmp_path / "page.md").exists()


def test_json_on_stdout_stays_json(tmp_path, capsys):
    run_ended(tmp_path, RunOptions(github=True, output_format="json"), result("a.py", "failed"))
    captured = capsys.readouterr()
    assert json.loads(captured.out)["run"]["exit_code"] == 1
    assert "::error file=a.py" in captured.err


def test_the_files_that_options_name_are_written(tmp_path, capsys):
    files = {name: tmp_path / "out" / name for name in ("ctrf", "gitlab_metrics", "junit", "sarif")}
    run_ended(tmp_path, RunOptions(**files), result("a.py", "failed"))
    assert all(path.stat().st_size > 50 for path in files.values())


def test_a_file_that_cannot_be_written_costs_neither_the_others_nor_the_report(tmp_path, capsys):
    options = RunOptions(junit=tmp_path, sarif=tmp_path / "profiles.yaml" / "x", ctrf=tmp_path / "ctrf.json")
    with pytest.raises(UsageError, match="the tests have run") as caught:
        run_ended(tmp_path, options, result("a.py", "failed"))
    assert caught.value.message.count("could not be written") == 2
    assert (tmp_path / "ctrf.json").exists()
    assert "FAIL" in capsys.readouterr().out


def test_githubs_own_page_that_cannot_be_written_changes_no_exit_code(tmp_path, capsys):
    lines = told({"GITHUB_STEP_SUMMARY": str(tmp_path)}, result("a.py", "failed"))
    assert lines[-1].startswith("::error")
    assert "step summary" in capsys.readouterr().err
