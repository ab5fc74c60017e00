"""Starts pytest once in a container and forks a process for each test.

    python3 -c PROGRAM TEXT      fd 0: requests, fd 1: answers, fds 8 and 9: the tests' stdout and stderr

It runs inside the container, where orch is not installed: it uses the standard library of Python >= 3.8 and the
image's own pytest >= 7. There are three kinds of process. The *server* has imported pytest. A *template*, one for
each folder of tests, has pytest's configuration for that folder (plugins, ini, conftest files) and stops at the
point where pytest would begin to run. A *test* is forked from a template and continues there in pytest's own code.

A request is a line of JSON: `argv` (the words after `python3 -m pytest`), `target`, `suite_name` (of the report;
may be null), `env`, `folder` (the key of its template), `collect`. The answer is `exit CODE PIDS`, where PIDS are
the server and its templates, or `refuse PIDS: WHY` if nothing has been run. `prepare REQUEST` comes before the
test's clock and memory floor begin; its answer is `ready PIDS` or a refusal. The agent may also request chores
(`CHORES`). docs/design/engine/preload.md lists what a forked test may not share, and how a forked test is kept
equal to one of a plain pytest.

This is one file, because its text is sent into the container. Its parts, in order:

    Channel                     lines between agent, server and templates
    CHORES                      work for the agent that would need programs: list, pack and empty folders
    Server                      answers requests by the templates
    Template                    configures pytest, checks that it can be forked, and forks tests
    Compiled                    keeps the compiled modules of the project for later tests
    limit_fixture_search        makes pytest search its own plugins for fixtures only once
    adapt, rename_suite         give pytest the arguments of the next test
    Ahead                       imports test modules in a template (`preload: collect`)
    the functions after it      the state of a process, its files and its end; `main`
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import fnmatch
import gc
import importlib
import importlib.machinery
import io
import json
import mmap
import os
import pathlib
import random
import runpy
import shutil
import signal
import stat
import sys
import tarfile
import tempfile
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not at run time: the oldest Python lacks some of these
    import types
    from collections.abc import Callable, Iterator
    from typing import Any

    Request = dict[str, Any]

MAX_TEMPLATES = 4
PREPARE = "prepare"
"""The word before a request that is prepared, and not run yet."""
NOTES_BYTES = 1 << 16
MAX_SOURCE_BYTES = 1 << 20
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
SPARED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that end a test. All processes of the container get them; server and templates ignore them."""


class RefusedError(Exception):
    """Raised if a test must be started as a separate program; its text is the reason."""


class SpoiledError(Exception):
    """Raised if a template has imported a module whose import a test would notice; its text is the reason."""


class Channel:
    """Reads lines from one descriptor and writes lines to another; executed programs do not inherit them."""

    def __init__(self, source: int, sink: int) -> None:
        """Duplicate both descriptors to numbers above those that pytest uses."""
        self._source = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 10)
        self._sink = fcntl.fcntl(sink, fcntl.F_DUPFD_CLOEXEC, 10)
        self._rest = b""

    @property
    def descriptors(self) -> tuple[int, int]:
        """The numbers of both descriptors."""
        return self._source, self._sink

    def read(self) -> str | None:
        """Return the next line, None at the end."""
        while b"\n" not in self._rest:
            data = os.read(self._source, 1 << 16)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def write(self, line: str) -> None:
        """Write a line. Raises OSError if the reader has closed its end."""
        data = line.replace("\n", " ").encode(errors="replace") + b"\n"
        while data:
            data = data[os.write(self._sink, data) :]

    def close(self) -> None:
        """Close both descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def write_space(agent: Channel, _: int, folders: str) -> None:
    """Write a line for each folder, like `stat -f -c "space %n %b %f %c %d %S"`."""
    for folder in folders.split():
        seen = os.statvfs(folder)
        words = (seen.f_blocks, seen.f_bfree, seen.f_files, seen.f_ffree, seen.f_frsize)
        agent.write(f"space {folder} {' '.join(map(str, words))}")


class CapError(Exception):
    """Raised by `Capped` once its number of bytes is reached."""


class Capped(io.RawIOBase):
    """Writes to a descriptor, up to a number of bytes."""

    def __init__(self, descriptor: int, cap: int) -> None:
        """Write at most `cap` bytes to `descriptor`, which is never closed here."""
        self._descriptor, self._left = descriptor, cap

    def writable(self) -> bool:
        """Return True, as the only operation is `write`."""
        return True

    def write(self, data: Any) -> int:
        """Write the bytes up to the cap. Raises CapError once it is reached."""
        view = memoryview(data)[: self._left]
        self._left -= len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if not self._left:
            raise CapError
        return len(data)


LIST_BYTES = 262_144
SMALL_BYTES = 1 << 20


def list_files(agent: Channel, stream: int, words: str) -> None:
    """Write the names of all files, a line `//`, and the names of those larger than the cap.

    Files that their owner may not read are made readable.
    """
    cap, _, folder = words.partition(" ")
    names, large = [], []
    for path, status in files_of(folder):
        names.append(f"./{os.path.relpath(path, folder)}\n")
        if stat.S_ISREG(status.st_mode):
            with contextlib.suppress(OSError):
                os.chmod(path, status.st_mode | stat.S_IRUSR)
            if status.st_size > int(cap):
                large.append(names[-1])
    left = memoryview(
        os.fsencode("".join(names))[:LIST_BYTES] + b"\n//\n" + os.fsencode("".join(large))[:LIST_BYTES]
    )
    while left:
        left = left[os.write(stream, left) :]
    agent.write("done")


def files_of(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all files below a folder; folders that their owner may not enter are made accessible."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield entry.path, status
                continue
            if status.st_mode & 0o500 != 0o500:
                os.chmod(entry.path, status.st_mode | stat.S_IRWXU)
            yield from files_of(entry.path)


def pack(agent: Channel, stream: int, words: str) -> None:
    """Write a tar archive of a folder up to the cap: small files first, and none larger than the cap."""
    cap, _, folder = words.partition(" ")
    small_enough = [(path, status.st_size) for path, status in files_of(folder) if status.st_size <= int(cap)]
    with contextlib.suppress(CapError), tarfile.open(fileobj=Capped(stream, int(cap)), mode="w|") as archive:
        for path, _ in sorted(small_enough, key=lambda one: (one[1] > SMALL_BYTES, one[0])):
            with contextlib.suppress(OSError):  # a file that may not be read
                archive.add(path, arcname=f"./{os.path.relpath(path, folder)}", recursive=False)
    agent.write("done")


def empty(agent: Channel, _: int, folders: str) -> None:
    """Remove the contents of folders, like `rm -rf`; what cannot be removed stays."""
    for folder in folders.split():
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    agent.write("done")


CHORES = {"space": write_space, "list": list_files, "pack": pack, "empty": empty}
"""The tasks for which the agent would otherwise start programs after each test, which costs 5 ms for four."""


class Server:
    """Answers the agent's requests by the template of each request's folder."""

    def __init__(self, agent: Channel, streams: tuple[int, int], why_not: str | None) -> None:
        """Serve `agent`; tests write to `streams`. With `why_not`, refuse every test for this reason."""
        self._agent = agent
        self._why_not = why_not
        self._streams = streams
        self._inherited = frozenset(map(int, os.listdir("/proc/self/fd")))
        self._own_state = inherited_state()
        self._templates: dict[str, tuple[int, Channel]] = {}
        self._refused: dict[str, str] = {}
        self._start_only: set[str] = set()

    def run(self) -> None:
        """Answer requests until the agent closes the channel."""
        for line in iter(self._agent.read, None):
            word, _, rest = line.partition(" ")
            if word in CHORES:
                CHORES[word](self._agent, self._streams[0], rest)
                continue
            preparing = word == PREPARE
            request = json.loads(rest if preparing else line)
            try:
                code = self._hand_on(request, preparing=preparing)
                self._agent.write(f"ready {self._pids()}" if preparing else f"exit {code} {self._pids()}")
            except RefusedError as why:
                self._agent.write(f"refuse {self._pids()}: {why}")

    def _pids(self) -> str:
        return " ".join(str(pid) for pid in (os.getpid(), *(pid for pid, _ in self._templates.values())))

    def _hand_on(self, request: Request, *, preparing: bool) -> int:
        """Return the exit code of the test, or 0 for a template that is ready. Raises RefusedError."""
        if self._why_not is not None:
            raise RefusedError(self._why_not)
        folder = request["folder"]
        if folder in self._refused:
            raise RefusedError(self._refused[folder])
        if folder in self._start_only and request["collect"]:
            request = {**request, "collect": False}
        channel = self._template_of(folder, request)
        with contextlib.suppress(OSError):  # the template has ended: there will be no answer
            channel.write(f"{PREPARE} {json.dumps(request)}" if preparing else json.dumps(request))
        word, _, rest = (channel.read() or "lost").partition(" ")
        if word == "exit":
            return int(rest)
        if word == "ready":
            return 0
        self._end(folder)
        if word == "spoiled":
            self._start_only.add(folder)
            return self._hand_on(request, preparing=preparing)
        if word == "lost" and preparing:
            raise RefusedError("pytest ended while it was configured")
        if word == "lost":  # the test has killed its template, and its own exit code is unknown
            return 128 + signal.SIGKILL
        self._refused[folder] = rest
        raise RefusedError(rest)

    def _template_of(self, folder: str, request: Request) -> Channel:
        """Return the channel to the folder's template, which is started if there is none or it has ended."""
        if folder in self._templates and os.waitpid(self._templates[folder][0], os.WNOHANG)[0]:
            self._templates.pop(folder)[1].close()
        if folder not in self._templates:
            self._start(folder, request)
        # the last one is the most recently used
        _, channel = self._templates[folder] = self._templates.pop(folder)
        return channel

    def _start(self, folder: str, request: Request) -> None:
        while len(self._templates) >= MAX_TEMPLATES:
            self._end(next(iter(self._templates)))
        requests, answers = os.pipe(), os.pipe()
        theirs, ours = Channel(requests[0], answers[1]), Channel(answers[0], requests[1])
        for descriptor in (*requests, *answers):
            os.close(descriptor)
        try:
            pid = fork()
        except RefusedError:
            theirs.close()
            ours.close()
            raise
        if pid == 0:
            for channel in (self._agent, ours, *(channel for _, channel in self._templates.values())):
                channel.close()
            end_process(Template(theirs, self._streams, self._inherited, self._own_state, request).run)
        theirs.close()
        self._templates[folder] = pid, ours

    def _end(self, folder: str) -> None:
        pid, channel = self._templates.pop(folder)
        channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Template:
    """A process with a pytest that is configured for one folder, from which tests are forked."""

    def __init__(
        self,
        channel: Channel,
        streams: tuple[int, int],
        known: frozenset[int],
        state: dict[str, Any],
        request: Request,
    ) -> None:
        """Answer requests from `channel`; tests write to `streams`.

        `known` are descriptors that are not pytest's. `state` is the server's `inherited_state`. `request` is the
        first request, with whose arguments pytest is configured.
        """
        self._servers_state = state
        self._channel = channel
        self._known = known | set(channel.descriptors)
        self._streams = streams
        self._request = request
        self._is_test = False
        self._stand_ins: tuple[int, int] = (-1, -1)
        self._shared: list[tuple[int, str]] = []
        self._compiled = Compiled()
        self._shared_memory = shared_memory()

    def run(self) -> int:
        """Configure pytest and serve requests; return the exit code in the process of a test."""
        pytest_config: Any = importlib.import_module("_pytest.config")
        self._stand_ins = (self._stand_in(1), self._stand_in(2))
        for number in SPARED:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        prepare = pytest_config._prepareconfig

        def prepare_and_wait(*args: Any, **kwargs: Any) -> Any:
            pytest_config._prepareconfig = prepare
            config = prepare(*args, **kwargs)
            self._serve(config)
            return config

        pytest_config._prepareconfig = prepare_and_wait
        sys.argv = ["-m", *self._request["argv"]]
        if hasattr(sys, "orig_argv"):
            sys.orig_argv = ["python3", "-m", "pytest", *self._request["argv"]]
        for name in ("sys", "zlib", "binascii", "text"):  # names that PROGRAM has defined
            vars(sys.modules["__main__"]).pop(name, None)
        code = exit_code_of(lambda: runpy._run_module_as_main("pytest"))  # type: ignore[attr-defined]
        if not self._is_test:
            self._channel.read()
            self._refuse("pytest could not be configured")
        self._compiled.report()
        return code

    def _stand_in(self, descriptor: int) -> int:
        """Redirect the descriptor to a temporary file, which collects output of pytest's configuration."""
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), descriptor)
            return os.fstat(file.fileno()).st_ino

    def _refuse(self, why: str) -> None:
        self._channel.write(f"refuse {why}")
        os._exit(1)

    def _serve(self, config: Any) -> None:
        """Fork a test for each request. Return in the process of a test only."""
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SPARED}
        known = self._request
        self._compiled.install()
        limit_fixture_search(config)
        gc.collect()
        gc.freeze()  # else the first collection in each test would write to, and so copy, all memory of objects
        checked = False
        ahead = Ahead(config)
        for line in iter(self._channel.read, None):
            preparing = line.startswith(PREPARE)
            request = json.loads(line[len(PREPARE) :] if preparing else line)
            try:
                adapt(config, known, request)
                known = request
                imported = request["collect"] and ahead.take(request["target"])
                if imported or not checked:
                    self._check()
                    checked = True
                if preparing:
                    self._channel.write("ready")
                    continue
                pid = fork()
            except RefusedError as why:
                self._refuse(str(why))
            except SpoiledError:
                self._channel.write("spoiled")
                os._exit(1)
            if pid == 0:
                self._become_test(handlers)
                return
            status = os.waitpid(pid, 0)[1]
            code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            self._compiled.learn()  # before the answer, so that its cost is not charged to the next test
            self._channel.write(f"exit {code}")
        os._exit(0)

    def _check(self) -> None:
        """Raise RefusedError if a forked process would not be an independent copy of this one."""
        if threading.active_count() != 1 or len(os.listdir("/proc/self/task")) != 1:
            names = ", ".join(t.name for t in threading.enumerate() if t is not threading.main_thread())
            raise RefusedError(f"threads run: {names or 'not of Python'}")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
            raise RefusedError("conftest files or plugins have started processes")
        state = inherited_state()
        changed = [name for name, value in state.items() if value != self._servers_state[name]]
        if changed:  # the monitor outside the container could not distinguish it from a change by a test
            raise RefusedError(f"conftest files or plugins have changed their process: {', '.join(changed)}")
        for place in sorted(shared_memory() - self._shared_memory):
            raise RefusedError(f"conftest files or plugins share memory with what they start: {place}")
        self._shared = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
                self._check_descriptor(int(name), os.readlink(f"/proc/self/fd/{name}"))

    def _check_descriptor(self, number: int, place: str) -> None:
        info, mode = os.fstat(number), fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        if number in self._known and number > 2:
            return
        if stat.S_ISREG(info.st_mode) and info.st_ino in self._stand_ins:
            self._shared.append((number, "12"[self._stand_ins.index(info.st_ino)]))
        elif stat.S_ISREG(info.st_mode) and not info.st_nlink:
            self._shared.append((number, "copy"))
        elif stat.S_ISREG(info.st_mode) and mode == os.O_RDONLY:
            self._shared.append((number, "reopen"))
        elif not stat.S_ISCHR(info.st_mode):
            raise RefusedError(f"conftest files or plugins hold open {place}")

    def _become_test(self, handlers: dict[signal.Signals, Any]) -> None:
        """Make the forked process independent of the template and of later tests."""
        self._is_test = True
        for spared, handler in handlers.items():
            signal.signal(spared, handler)
        self._channel.close()
        self._connect_streams()
        for number, kind in self._shared:
            if kind == "copy":
                copy_file(number)
            elif kind == "reopen":
                reopen(number)
        for descriptor in self._streams:
            os.close(descriptor)
        set_dumpable(1)  # it has no descriptors of server or agent any more
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        self._compiled.forget()
        reseed()

    def _connect_streams(self) -> None:
        """Replace the temporary files of stdout and stderr by the streams, after writing their contents to these.

        The streams are opened again, because flags such as O_NONBLOCK, and locks, belong to an open file, and
        would remain for the next test.
        """
        streams = [open_anew(stream) for stream in self._streams]
        for descriptor, stream in zip((1, 2), streams):
            size = os.fstat(descriptor).st_size
            if size:
                os.write(stream, os.pread(descriptor, size, 0))
        for number, kind in self._shared:
            if kind in "12":
                os.dup2(streams[int(kind) - 1], number, inheritable=number < 3)
        for stream in streams:
            os.close(stream)


class Compiled:
    """The compiled modules of the project that earlier tests have imported.

    Where sources are read-only, there are no bytecode files. A test reports the names of the files that it had
    to compile, in memory that it shares with its template. The template reads and compiles these files itself, so
    a test cannot pass code to later ones. Compiled code is used only while the file's bytes are the same.
    """

    def __init__(self) -> None:
        """Begin without any compiled modules."""
        self._known: dict[str, tuple[bytes, types.CodeType]] = {}
        self._recorded: list[str] = []
        self._notes = mmap.mmap(-1, NOTES_BYTES)
        self._compile = importlib.machinery.SourceFileLoader.source_to_code

    def install(self) -> None:
        """Make later imports use the compiled modules, and record those that had to be compiled."""
        if not sys.dont_write_bytecode:
            return
        known, recorded, compile_source = self._known, self._recorded, self._compile

        def source_to_code(self: Any, data: Any, path: Any, **options: Any) -> Any:
            found = known.get(path)
            if found is not None and found[0] == data:
                return found[1]
            recorded.append(path)
            return compile_source(self, data, path, **options)

        # keep tracebacks unchanged: the interpreter omits frames of its import system by their file name
        loader = importlib.machinery.SourceFileLoader
        theirs = loader.get_data.__code__.co_filename
        source_to_code.__code__ = source_to_code.__code__.replace(co_filename=theirs)
        loader.source_to_code = source_to_code  # type: ignore[method-assign]

    def forget(self) -> None:
        """Forget the files recorded so far, in the process of a test that begins."""
        self._recorded.clear()

    def report(self) -> None:
        """Write the names of the recorded files to the shared memory, in the process of a test that ends."""
        data = "\n".join(path for path in self._recorded if isinstance(path, str)).encode(errors="replace")
        if len(data) < NOTES_BYTES:
            self._notes[: len(data) + 1] = data + b"\0"

    def learn(self) -> None:
        """Compile the files that the last test had to compile, in the template."""
        paths = self._notes[:].partition(b"\0")[0].decode(errors="replace")
        self._notes[0] = 0
        for path in filter(None, paths.split("\n")):
            with contextlib.suppress(Exception), warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                data = read_source(path)
                loader = importlib.machinery.SourceFileLoader("orch", path)
                code = self._compile(loader, data, path)
                if not seen:  # a file that causes a warning must do so at each import
                    self._known[path] = data, code


def limit_fixture_search(config: Any) -> None:
    """Make pytest examine only the known fixtures of its own plugins, when it collects fixtures.

    Otherwise each session checks every attribute of 41 plugins, which takes a third of a short session. Conftest
    files and other plugins are examined as usual.
    """
    fixtures = importlib.import_module("_pytest.fixtures")
    parse = getattr(fixtures.FixtureManager, "parsefactories", None)
    if parse is None or not (
        hasattr(fixtures, "FixtureFunctionDefinition") or hasattr(fixtures, "getfixturemarker")
    ):
        return
    own = OwnPlugins(fixtures, config.pluginmanager.get_plugins())

    def parsefactories(self: Any, *args: Any, **options: Any) -> None:
        if "holder" in options:
            options["holder"] = holder = own.lean(options["holder"])
        elif len(args) > 1 or "nodeid" in options:
            holder, *rest = args
            args = (holder := own.lean(holder), *rest)
        else:  # a node, whose own object pytest examines
            holder = self
        if holder is not None:
            parse(self, *args, **options)

    fixtures.FixtureManager.parsefactories = parsefactories


class OwnPlugins:
    """The fixtures of pytest's own plugins. pytest 8.4 changed how a fixture is marked."""

    def __init__(self, fixtures: types.ModuleType, plugins: Any) -> None:
        """Examine the modules and classes now; the objects, which each session creates, in `lean`."""
        self._definition = getattr(fixtures, "FixtureFunctionDefinition", None)
        self._marker = getattr(fixtures, "getfixturemarker", lambda _: None)
        self._bare: dict[type, bool] = {}
        own = [plugin for plugin in plugins if is_pytests_own(plugin)]
        self._modules = {id(plugin): self._only_fixtures(plugin) for plugin in own}
        for kind in {value for plugin in own for value in vars(plugin).values() if isinstance(value, type)}:
            self._is_bare(kind)

    def _only_fixtures(self, module: types.ModuleType) -> types.ModuleType | None:
        found = {name: value for name, value in vars(module).items() if self._is_fixture(value)}
        if not found:
            return None
        lean = type(sys)(module.__name__)
        vars(lean).update(found)
        return lean

    def lean(self, holder: Any) -> Any:
        """Return the object to examine for the fixtures of `holder`; None if it has no fixtures."""
        kind = type(holder)
        if kind is type(sys):
            return self._modules.get(id(holder), holder)
        if self._is_bare(kind) and not any(map(self._is_fixture, getattr(holder, "__dict__", {}).values())):
            return None
        return holder

    def _is_bare(self, kind: type) -> bool:
        """Return whether this is a class of pytest itself without fixtures, also in its base classes."""
        known = self._bare.get(kind)
        if known is None:
            own = str(kind.__module__).startswith("_pytest.")
            inside = [value for base in kind.__mro__ for value in vars(base).values()] if own else []
            known = self._bare[kind] = own and not any(map(self._is_fixture, inside))
        return known

    def _is_fixture(self, value: Any) -> bool:
        if self._definition is not None:
            return isinstance(value, self._definition)
        return self._marker(value) is not None


def is_pytests_own(plugin: Any) -> bool:
    """Return whether a plugin is a module of pytest itself."""
    return type(plugin) is type(sys) and plugin.__name__.startswith("_pytest.")


def set_dumpable(value: int) -> str | None:
    """Set whether processes of the same user may access this process's memory and descriptors (1) or not (0).

    Forked processes inherit it until they execute a program. Return the reason if it failed, else None.
    """
    try:
        prctl = importlib.import_module("ctypes").CDLL(None).prctl
        if prctl(PR_SET_DUMPABLE, value, 0, 0, 0) == 0 and prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == value:
            return None
    except (ImportError, OSError, AttributeError) as error:
        return f"the server cannot protect itself from tests: {error}"
    return "the server cannot protect itself from tests: prctl"


def fork() -> int:
    """Fork this process. Raises RefusedError if the limits allow no more processes."""
    try:
        return os.fork()
    except OSError as error:
        raise RefusedError(f"fork: {error.strerror}") from None


def adapt(config: Any, known: Request, request: Request) -> None:
    """Replace the arguments of `known` in pytest's configuration by those of `request`. Raises RefusedError."""
    old, new = known["target"], request["target"]
    arguments = [new if word == old else word for word in config.args]
    if new not in arguments:
        raise RefusedError("pytest was configured with other targets")
    config.args[:] = arguments
    for place in (config.option, config.known_args_namespace):
        place.file_or_dir = [new if word == old else word for word in getattr(place, "file_or_dir", None) or ()]
    if request["suite_name"] is not None:
        rename_suite(config, known["suite_name"], request["suite_name"])
    if config.option.file_or_dir != arguments[-len(config.option.file_or_dir) :]:
        raise RefusedError("pytest was configured with other targets")
    params = config.invocation_params
    argv = tuple(request["argv"])
    config.invocation_params = type(params)(args=argv, plugins=params.plugins, dir=params.dir)
    sys.argv[1:] = argv
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[3:] = argv
    os.environ.update(request["env"])


def rename_suite(config: Any, old: str, new: str) -> None:
    """Change the value of `-o junit_suite_name=`, whose place in pytest depends on the version."""
    words = (f"junit_suite_name={old}", f"junit_suite_name={new}")
    for place, name in ((config.option, "override_ini"), (config.known_args_namespace, "override_ini"),
                        (config, "_override_ini")):  # fmt: skip
        if getattr(place, name, None):
            setattr(place, name, [words[1] if word == words[0] else word for word in getattr(place, name)])
    inicfg = getattr(config, "_inicfg", None)
    if inicfg and "junit_suite_name" in inicfg:
        findpaths = importlib.import_module("_pytest.config.findpaths")
        inicfg.update(findpaths.parse_override_ini([words[1]]))
    config._inicache.pop("junit_suite_name", None)
    if config.getini("junit_suite_name") != new:
        raise RefusedError("the report could not be named")


class Ahead:
    """Imports test modules in a template (`preload: collect`), so that the tests need not import them."""

    def __init__(self, config: Any) -> None:
        """Import with the settings of pytest's configuration `config`."""
        self._config = config
        self._seen: set[str] = set()

    def take(self, target: str) -> bool:
        """Import the module of `target`; return False if there is nothing to import.

        Raises SpoiledError if a test would notice the import: it warns, writes, fails or skips.
        """
        path = pathlib.Path(os.path.abspath(target.partition("[")[0].partition("::")[0]))
        named = any(fnmatch.fnmatch(path.name, pattern) for pattern in self._config.getini("python_files"))
        if str(path) in self._seen or not named or not path.is_file():
            return False  # assertions of a file that is only named on the command line are rewritten in a session
        self._seen.add(str(path))
        marks = importlib.import_module("_pytest.mark").MARK_GEN
        before, marks._config = self._written(), self._config
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                self._import(path)
        except BaseException as error:
            raise SpoiledError(f"importing {path.name}: {type(error).__name__}") from None
        finally:
            marks._config = None
        if warned or self._written() != before:
            raise SpoiledError(f"importing {path.name} warns or writes")
        gc.collect()
        gc.freeze()
        return True

    def _import(self, path: pathlib.Path) -> None:
        options = {"mode": self._config.getoption("importmode"), "root": self._config.rootpath}
        with contextlib.suppress(ValueError):  # an older pytest has no such setting
            options["consider_namespace_packages"] = self._config.getini("consider_namespace_packages")
        importlib.import_module("_pytest.pathlib").import_path(path, **options)

    @staticmethod
    def _written() -> tuple[int, int]:
        sys.stdout.flush()
        sys.stderr.flush()
        return os.fstat(1).st_size, os.fstat(2).st_size


def inherited_state() -> dict[str, Any]:
    """Return the properties that another process of this user could change and that children inherit."""
    with open("/proc/self/limits") as file:
        limits = file.read()
    return {
        "resource limits": limits,
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduling policy": os.sched_getscheduler(0),
        "CPU affinity": os.sched_getaffinity(0),
    }


def shared_memory() -> set[str]:
    """Return the shared writable mappings of this process, which forked processes would share."""
    with open("/proc/self/maps") as file:
        words = [line.split(None, 5) for line in file]
    return {" ".join(word[3:]).strip() for word in words if word[1].startswith("rw") and word[1].endswith("s")}


def read_source(path: str) -> bytes:
    """Return the first bytes of a regular file, without blocking on a FIFO. Raises OSError for other files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        return os.read(descriptor, MAX_SOURCE_BYTES)
    finally:
        os.close(descriptor)


def reseed() -> None:
    """Reseed the random generators of numpy and pytest-randomly; `random` does so itself after a fork."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    randomly: Any = sys.modules.get("pytest_randomly")
    if randomly is not None and hasattr(randomly, "default_seed"):
        randomly.default_seed = random.Random().getrandbits(32)


def reopen(number: int) -> None:
    """Open the file of descriptor `number` again, so that its position is not shared."""
    offset, inheritable = os.lseek(number, 0, os.SEEK_CUR), os.get_inheritable(number)
    own = os.open(f"/proc/self/fd/{number}", os.O_RDONLY)
    os.lseek(own, offset, os.SEEK_SET)
    os.dup2(own, number, inheritable=inheritable)
    os.close(own)


def open_anew(stream: int) -> int:
    """Return a new descriptor with flags of its own for a pipe, and a duplicate for anything else."""
    if stat.S_ISFIFO(os.fstat(stream).st_mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{stream}", os.O_WRONLY)
    return os.dup(stream)


def copy_file(number: int) -> None:
    """Copy the unnamed temporary file of descriptor `number`, into which pytest captures output."""
    offset, inheritable = os.lseek(number, 0, os.SEEK_CUR), os.get_inheritable(number)
    with tempfile.TemporaryFile(buffering=0) as own:
        size = os.fstat(number).st_size
        if size:
            own.write(os.pread(number, size, 0))
        own.seek(offset)
        os.dup2(own.fileno(), number, inheritable=inheritable)


def exit_code_of(main: Callable[[], object]) -> int:
    """Run `main` as the interpreter runs a program; return its exit code and print the same errors."""
    try:
        main()
    except SystemExit as end:
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return end.code & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        inner = error.__traceback__
        while inner is not None and inner.tb_frame.f_globals is globals():
            inner = inner.tb_next
        sys.excepthook(type(error), error.with_traceback(inner), inner)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return -signal.SIGINT
        return 1
    return 0


def end_process(main: Callable[[], int]) -> None:
    """End this process as the interpreter would, without freeing memory that the kernel frees anyway."""
    code = main()
    threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):  # before 3.10 the last error is raised once more
        atexit._run_exitfuncs()
    flush_files()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            code = 120 if stream is sys.stdout else code
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def flush_files() -> None:
    """Flush open files with unwritten data, which the interpreter would close at its end."""
    if len(os.listdir("/proc/self/fd")) <= 4:  # the three standard streams and the listing's own
        return
    gc.unfreeze()
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    files = [item for item in gc.get_objects() if type(item) in kinds]
    for kind in kinds:
        for file in files:
            if type(file) is kind and file not in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    file.flush()


def import_pytest() -> None:
    """Import pytest and the plugins that it always loads."""
    importlib.import_module("pytest")
    for name in importlib.import_module("_pytest.config").default_plugins:
        importlib.import_module(f"_pytest.{name}")
    for name in ("pdb", "faulthandler"):  # pytest imports them in each session
        importlib.import_module(name)
    with contextlib.suppress(Exception):  # it compiles a pattern of characters that XML forbids, which takes 10 ms
        importlib.import_module("_pytest.junitxml").bin_xml_escape("")


def main() -> None:
    """Set up the server and run it."""
    why_not = set_dumpable(0)  # before any code runs that is not the interpreter's own
    for number in SPARED:
        signal.signal(number, signal.SIG_IGN)
    agent = Channel(0, 1)
    streams = (fcntl.fcntl(8, fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(9, fcntl.F_DUPFD_CLOEXEC, 10))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    for descriptor, stream in zip((1, 2), streams):
        os.dup2(stream, descriptor)
    os.closerange(3, 10)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    if why_not is None:
        import_pytest()
    Server(agent, streams, why_not).run()
    os._exit(0)


if __name__ == "orch_preload":  # see preload.PROGRAM
    main()
