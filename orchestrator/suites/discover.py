"""Find the tests of a project: the suite of each file, and the command that starts it."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import NoTestsError, UsageError
from orchestrator.globs import compile_glob
from orchestrator.model.suites import Granularity, LeftOut, LeftOutReason, Runner, Suite
from orchestrator.model.tests import Test, TestId
from orchestrator.suites import command, pytest, shell
from orchestrator.suites.arguments import environment
from orchestrator.suites.cases import CannotListError, ListedCase, custom_names, list_cases, may_contain
from orchestrator.suites.pytest_settings import pytest_files
from orchestrator.suites.source import Source, read_source
from orchestrator.suites.walk import files_behind, files_below, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from orchestrator.suites.pytest_settings import PytestFiles

_log = logging.getLogger(__name__)
_NAMED = 5
"""The largest number of tests that a notice about tests that are not run names."""
_UNMARKED: frozenset[str] = frozenset()
"""The markers of most tests. One shared object, because each new empty set takes 216 bytes for each
planned test.
"""


def discover(
    suites: Sequence[Suite],
    paths: Sequence[str],
    root: Path,
    *,
    environ: Mapping[str, str] | None = None,
    notice: Callable[[str], None] = _log.warning,
    left_out: Callable[[LeftOut], None] = lambda _: None,
) -> tuple[Test, ...]:
    """Return the selected tests sorted by path and case; the first suite that matches a file is used.

    `paths` are given as typed (relative to the working directory, or absolute): files, folders, or `file::case`.
    Without paths, the whole project is searched. `pass_env` is read from `environ` (default: os.environ).
    `left_out` is called for each test that was found but cannot run. `notice` is called with a sentence for each
    reason of these, for each file that cannot be read, and for each file that will fail because of its name.

    Raises NoTestsError if a test that was named cannot run: it does not exist, is outside `root`, or matches no
    suite. Raises UsageError for an impossible case or suite.
    """
    finder = _Finder(suites, root, os.environ if environ is None else environ, notice)
    whole, cases = finder.select(paths)
    tests = [test for path in whole for test in finder.tests_of_file(path)]
    tests += [finder.test_of_case(path, case) for path, case in cases if path not in whole]
    finder.tell_left_out(left_out)
    return tuple(sorted(tests, key=lambda test: (test.id.path, test.id.case or "")))


@dataclass(frozen=True, slots=True)
class _Matcher:
    suite: Suite
    env: Mapping[str, str]
    match: Callable[[str], object]
    exclude: Callable[[str], object]


class _Finder:
    """The state of one search of the project."""

    def __init__(
        self, suites: Sequence[Suite], root: Path, environ: Mapping[str, str], notice: Callable[[str], None]
    ) -> None:
        self.typed_root = os.path.abspath(root)  # noqa: PTH100 - Path.absolute would keep `..`
        self.root = os.path.realpath(root)
        self.notice = notice
        self.matchers = [_matcher(suite, environ) for suite in suites]
        self.of_pytest = _pytest_files(suites, self.root)
        self.left_out: dict[str, LeftOutReason] = {}

    def select(self, paths: Sequence[str]) -> tuple[set[str], set[tuple[str, str]]]:
        """Return the files to run as a whole, and the (file, case) pairs to run."""
        whole: set[str] = set()
        cases: set[tuple[str, str]] = set()
        for typed in paths or (self.typed_root,):
            place, case = _split_case(typed)
            relative = self._relative(typed, place)
            if os.path.isdir(f"{self.root}/{relative}"):  # noqa: PTH112 - text all the way, for speed
                if case is not None:
                    raise UsageError(f"{typed!r}: a folder has no cases", remedy="name a file before the `::`")
                whole.update(self._found_below(relative, everywhere=bool(paths)))
                continue
            self._check_named(relative, typed)
            if case is None:
                whole.add(relative)
            else:
                cases.add((relative, case))
        return whole, cases

    def _found_below(self, folder: str, *, everywhere: bool) -> Iterator[str]:
        """Yield the tests below a folder. `everywhere`: the folder was named and is not just the whole project."""
        for path in files_below(self.root, folder, self._missed):
            if not self._matcher(path):
                if self.of_pytest is not None and self.of_pytest.collects(path, everywhere=everywhere):
                    self._leave_out(path, LeftOutReason.NO_SUITE, unless_excluded=True)
            elif (reason := _cannot_be_named(path)) is not None:
                self._leave_out(path, reason)
            else:
                yield path

    def _missed(self, path: str, reason: LeftOutReason) -> None:
        """Record the tests behind a link that is not followed, or a folder that cannot be read."""
        if reason is LeftOutReason.UNREADABLE:
            self._leave_out(path, reason)
            return
        for name in files_behind(f"{self.root}/{path}"):
            if name is None:
                self._leave_out(f"{path}/", reason)
            elif self._matcher(file := f"{path}/{name}" if name else path):
                self._leave_out(file, reason)

    def _leave_out(self, path: str, reason: LeftOutReason, *, unless_excluded: bool = False) -> None:
        if not unless_excluded or not any(matcher.exclude(path) for matcher in self.matchers):
            self.left_out[path.encode(errors="backslashreplace").decode()] = reason

    def tell_left_out(self, left_out: Callable[[LeftOut], None]) -> None:
        """Pass all tests that cannot run to `left_out`, and emit one notice for each reason."""
        by_reason: dict[LeftOutReason, list[str]] = {}
        for path, reason in sorted(self.left_out.items()):
            left_out(LeftOut(path=path, reason=reason))
            by_reason.setdefault(reason, []).append(path)
        for reason, found in by_reason.items():
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            self.notice(f"{len(found)} not run: {reason.value}: {', '.join(map(repr, found[:_NAMED]))}{more}")

    def tests_of_file(self, path: str) -> Iterator[Test]:
        """Yield the file as one test, or one test for each of its cases if the suite has that granularity."""
        matcher = self._require(path)
        source = self._read(path, matcher)
        if matcher.suite.runner is Runner.PYTEST:
            problem = pytest.cannot_address(path)
            if problem:
                self.notice(problem)
            elif matcher.suite.granularity is Granularity.CASE:
                for case in self._listed(path, matcher.suite, source) or (None,):
                    yield _test(matcher, path, source, case)
                return
        yield _test(matcher, path, source, None)

    def test_of_case(self, path: str, name: str) -> Test:
        """Return the test of a case that the user named.

        Raises NoTestsError if the file's text shows that it has no such case; otherwise only pytest can tell.
        """
        matcher = self._require(path)
        if matcher.suite.runner is not Runner.PYTEST:
            runner = matcher.suite.runner.value
            raise UsageError(
                f"{path}::{name}: suite {matcher.suite.name!r} has runner {runner}, which has no cases",
                remedy=f"run the whole file: {path}",
            )
        source = self._read(path, matcher)
        function = name.partition("[")[0]
        known = {case.name: case for case in self._listed(path, None, source)}
        if known and function not in known and not may_contain(source.content, function, known):
            raise _no_such_case(path, name, list(known))
        markers = known[function].markers if function in known else source.markers
        return _test(matcher, path, source, ListedCase(name=name, markers=markers))

    def _listed(self, path: str, suite: Suite | None, source: Source) -> tuple[ListedCase, ...]:
        """Return the file's cases; if they cannot be listed, return none, with a notice if `suite` is given."""
        folders = {Path(self.root), Path(self.root, suite.working_dir if suite else ".")}
        config = next((name for name in map(custom_names, sorted(folders)) if name), None)
        if config:
            reason = f"{config} changes which names are tests"
        elif len(source.content) < source.size_bytes:
            reason = "it is too large to be listed"
        else:
            try:
                return list_cases(source.content)
            except CannotListError as error:
                reason = str(error)
        if suite:
            self.notice(f"{path!r} stays one test: {reason}")
        return ()

    def _relative(self, typed: str, place: str) -> str:
        """Return `place` relative to the root. Raises NoTestsError if it does not exist or, with links resolved,
        lies outside.
        """
        absolute = os.path.abspath(place)  # noqa: PTH100 - as above
        if "\0" in place or not os.path.lexists(absolute):
            raise NoTestsError(
                f"path {typed!r} does not exist", remedy="paths are relative to the working directory"
            )
        if not inside(os.path.realpath(absolute), self.root):
            raise NoTestsError(
                f"path {typed!r} leads outside the project {str(self.root)!r}",
                remedy="containers see the project only; give --config of the project that it belongs to",
            )
        if not os.path.exists(absolute):  # noqa: PTH110 - Path.exists raises for odd names
            raise NoTestsError(f"path {typed!r} is a link whose target does not exist", remedy="correct the link")
        if inside(absolute, self.typed_root):  # a link inside the project keeps the name that the user typed
            return os.path.relpath(absolute, self.typed_root)
        return os.path.relpath(os.path.realpath(absolute), self.root)

    def _check_named(self, path: str, typed: str) -> None:
        """Raise NoTestsError if a path that was named cannot run."""
        if not os.path.isfile(f"{self.root}/{path}"):  # noqa: PTH113 - as above
            raise NoTestsError(f"path {typed!r} is neither a file nor a folder", remedy="name another one")
        if not self._matcher(path):
            raise NoTestsError(
                f"{typed!r} matches no suite",
                remedy="add it to a suite's `match` in profiles.yaml, or leave it out",
            )
        reason = _cannot_be_named(path)
        if reason is not None:
            raise NoTestsError(f"{typed!r} cannot run: {reason.value}", remedy="rename it")

    def _matcher(self, path: str) -> _Matcher | None:
        for matcher in self.matchers:
            if matcher.match(path) and not matcher.exclude(path):
                return matcher
        return None

    def _require(self, path: str) -> _Matcher:
        matcher = self._matcher(path)
        assert matcher is not None, "select() let only files with a suite pass"  # noqa: S101 - our own invariant
        return matcher

    def _read(self, path: str, matcher: _Matcher) -> Source:
        try:
            return read_source(f"{self.root}/{path}", python=matcher.suite.runner is Runner.PYTEST)
        except OSError as error:
            self.notice(f"{path!r} cannot be read ({error.strerror or error}): its hint and markers are unknown")
            return Source()


def _matcher(suite: Suite, environ: Mapping[str, str]) -> _Matcher:
    if suite.runner is Runner.COMMAND:
        command.check_template(suite)  # an error of the suite is reported even where it matches no file
    defaults = pytest.DEFAULT_ENV if suite.runner is Runner.PYTEST else {}
    env = environment(suite, environ, defaults)
    return _Matcher(suite=suite, env=env, match=_any_of(suite.match), exclude=_any_of(suite.exclude))


def _pytest_files(suites: Sequence[Suite], root: str) -> PytestFiles | None:
    """Return what pytest collects by the project's own `python_files`; None if that is not set or no suite runs
    pytest.
    """
    if not any(suite.runner is Runner.PYTEST for suite in suites):
        return None
    return pytest_files(Path(root))


def _cannot_be_named(path: str) -> LeftOutReason | None:
    """Return the reason why the name cannot be used in a container unchanged; None if it can."""
    if "{output_dir}" in path:
        return LeftOutReason.PLACEHOLDER
    try:
        path.encode()
    except UnicodeEncodeError:
        return LeftOutReason.NOT_UTF8
    return None


def _any_of(patterns: Iterable[str]) -> Callable[[str], object]:
    sources = [f"(?:{compile_glob(pattern).pattern})" for pattern in patterns]
    return re.compile("|".join(sources), re.DOTALL).fullmatch if sources else _never


def _never(_path: str) -> None:
    return None


def _no_such_case(path: str, name: str, known: Sequence[str]) -> NoTestsError:
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return NoTestsError(
        f"{path}::{name}: there is no such case in the file",
        remedy=f"its cases: {', '.join(known[:_NAMED])}{more}",
    )


def _split_case(typed: str) -> tuple[str, str | None]:
    """Split `file::case` at the first `::` that follows an existing path; a path that exists has no case."""
    at = typed.find("::")
    if at < 0 or os.path.exists(typed):  # noqa: PTH110 - Path.exists raises for odd names
        return typed, None
    while at >= 0:
        place, case = typed[:at], typed[at + 2 :]
        if os.path.exists(place):  # noqa: PTH110 - as above
            if not case:
                raise UsageError(f"{typed!r}: nothing follows the `::`", remedy=f"to run the file: {place}")
            return place, case
        at = typed.find("::", at + 1)
    return typed.partition("::")[0], None


def _test(matcher: _Matcher, path: str, source: Source, case: ListedCase | None) -> Test:
    suite = matcher.suite
    name = case.name if case else None
    match suite.runner:
        case Runner.PYTEST:
            start = pytest.build_command(suite, path, name, matcher.env)
        case Runner.SHELL:
            start = shell.build_command(suite, path, source, matcher.env)
        case Runner.COMMAND:
            start = command.build_command(suite, path, matcher.env)
    return Test(
        id=TestId(path=path, case=name),
        suite=suite.name,
        command=start,
        markers=(case.markers if case else source.markers) or _UNMARKED,
        profile_hint=source.profile_hint,
        suite_profile=suite.profile,
        size_bytes=source.size_bytes,
    )
