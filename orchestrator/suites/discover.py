"""Finds the tests of a project: which file belongs to which suite, and how each is started."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.globs import compile_glob
from orchestrator.model import Granularity, Runner, Suite, Test, TestId
from orchestrator.suites import command, pytest, shell
from orchestrator.suites.arguments import environment
from orchestrator.suites.cases import CannotListError, ListedCase, custom_names, list_cases
from orchestrator.suites.source import Source, read_source
from orchestrator.suites.walk import files_below, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_log = logging.getLogger(__name__)
_UNMARKED: frozenset[str] = frozenset()
"""Most tests have no markers. Python makes each empty set anew: 216 bytes of each test that is planned."""


def discover(
    suites: Sequence[Suite],
    paths: Sequence[str],
    root: Path,
    *,
    environ: Mapping[str, str] | None = None,
    notice: Callable[[str], None] = _log.warning,
) -> tuple[Test, ...]:
    """The tests among `paths` (as typed: relative to the working directory or absolute; a file, a folder or
    `file::case`; none: all of the project), sorted by path and case. The first suite that matches wins.

    `environ` is where `pass_env` is read from (os.environ). `notice` gets one sentence for each file that
    was named but matches no suite, cannot be read, or cannot be run under its name.
    UsageError: a path that does not exist or lies outside `root`, an impossible case or suite.
    """
    finder = _Finder(suites, root, os.environ if environ is None else environ, notice)
    whole, cases = finder.select(paths)
    tests = [test for path in whole for test in finder.tests_of_file(path)]
    tests += [finder.test_of_case(path, case) for path, case in cases if path not in whole]
    return tuple(sorted(tests, key=lambda test: (test.id.path, test.id.case or "")))


@dataclass(frozen=True, slots=True)
class _Matcher:
    suite: Suite
    env: Mapping[str, str]
    match: Callable[[str], object]
    exclude: Callable[[str], object]


class _Finder:
    """The project while it is being searched."""

    def __init__(
        self, suites: Sequence[Suite], root: Path, environ: Mapping[str, str], notice: Callable[[str], None]
    ) -> None:
        self.typed_root = os.path.abspath(root)  # noqa: PTH100 - Path.absolute would keep `..`
        self.root = os.path.realpath(root)
        self.notice = notice
        self.matchers = [_matcher(suite, environ) for suite in suites]

    def select(self, paths: Sequence[str]) -> tuple[set[str], set[tuple[str, str]]]:
        """Files that are wanted whole, and (file, case) pairs."""
        whole: set[str] = set()
        cases: set[tuple[str, str]] = set()
        for typed in paths or (self.typed_root,):
            place, case = _split_case(typed)
            relative = self._relative(typed, place)
            if os.path.isdir(f"{self.root}/{relative}"):  # noqa: PTH112 - text all the way, for speed
                if case is not None:
                    raise UsageError(f"{typed!r}: a folder has no cases", remedy="name a file before the `::`")
                found = files_below(self.root, relative, self.notice)
                whole.update(path for path in found if self._matcher(path) and self._can_be_named(path))
            elif self._is_test(relative, typed):
                if case is None:
                    whole.add(relative)
                else:
                    cases.add((relative, case))
        return whole, cases

    def tests_of_file(self, path: str) -> Iterator[Test]:
        """The file as one test, or one test for each of its cases where the suite asks for that."""
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
        """The case that the user named; whether it exists only pytest can say."""
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
        markers = known[function].markers if function in known else source.markers
        return _test(matcher, path, source, ListedCase(name=name, markers=markers))

    def _listed(self, path: str, suite: Suite | None, source: Source) -> tuple[ListedCase, ...]:
        """The file's cases; none where they cannot be listed, with a notice if `suite` asked for them."""
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
        """`place` relative to the root; checked to exist and, links resolved, to lie inside the root."""
        absolute = os.path.abspath(place)  # noqa: PTH100 - as above
        if "\0" in place or not os.path.exists(absolute):  # noqa: PTH110 - Path.exists raises for odd names
            raise UsageError(
                f"path {typed!r} does not exist", remedy="paths are relative to the working directory"
            )
        if not inside(os.path.realpath(absolute), self.root):
            raise UsageError(
                f"path {typed!r} is outside the project {str(self.root)!r}",
                remedy="containers see the project only; give --config of the project that it belongs to",
            )
        if inside(absolute, self.typed_root):  # a link inside the project keeps the name the user gave
            return os.path.relpath(absolute, self.typed_root)
        return os.path.relpath(os.path.realpath(absolute), self.root)

    def _is_test(self, path: str, typed: str) -> bool:
        if not os.path.isfile(f"{self.root}/{path}"):  # noqa: PTH113 - as above
            raise UsageError(f"path {typed!r} is neither a file nor a folder")
        if not self._matcher(path):
            self.notice(f"{typed!r} matches no suite, it is not run")
            return False
        return self._can_be_named(path)

    def _can_be_named(self, path: str) -> bool:
        """False, with a notice, where the name cannot travel to a container unchanged."""
        reason = None
        if "{output_dir}" in path:
            reason = "its name contains {output_dir}, which stands for the outputs folder in commands"
        try:
            path.encode()
        except UnicodeEncodeError:
            reason = "its name is not UTF-8"
        if reason:
            self.notice(f"{path!r} is not run: {reason}; rename it")
        return reason is None

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


def _any_of(patterns: Iterable[str]) -> Callable[[str], object]:
    sources = [f"(?:{compile_glob(pattern).pattern})" for pattern in patterns]
    return re.compile("|".join(sources), re.DOTALL).fullmatch if sources else _never


def _never(_path: str) -> None:
    return None


def _split_case(typed: str) -> tuple[str, str | None]:
    """`file::case` at the first `::` in front of which something exists; a path that exists is no case."""
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
