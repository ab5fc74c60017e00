"""Every kind of test file gives the same with a pytest of its own and forked from a preloaded one."""

# ruff: noqa: E501 - a file of tests stays on a line, to be read as a table
from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.model.suites import Preload
from tests.unit.engine.agent.preload_driver import PLAIN, PYTHON, Preloaded, run_plain, words

PLUGINS = {"hypothesis": "_hypothesis_pytestplugin", "xdist": "xdist.plugin", "pytest_cov": "pytest_cov.plugin"}
OK = "def test_ok():\n    pass\n"


@dataclass(frozen=True)
class Scenario:
    files: dict[str, str]
    target: str = "test_x.py"
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    needs: str | None = None
    refused: str | None = None


SCENARIOS = {
    "passes": Scenario({"test_x.py": OK}),
    "fails": Scenario({"test_x.py": "import sys\ndef test_f():\n    print('o'); print('e', file=sys.stderr)\n"
                       "    a = {1: [2]}\n    assert a == {1: [3]}, 'why'\n"}),
    "nested conftest": Scenario({
        "conftest.py": "import pytest\nprint('loaded')\n@pytest.fixture\ndef a():\n    return 1\n",
        "sub/conftest.py": "import pytest\n@pytest.fixture\ndef b(a):\n    return a + 1\n",
        "sub/deep/conftest.py": "import pytest\n@pytest.fixture(autouse=True)\ndef c(b):\n    yield\n    print('end', b)\n",
        "sub/deep/test_x.py": "def test_b(b):\n    assert b == 3\n",
    }, target="sub/deep/test_x.py"),
    "plugins that are objects": Scenario({
        "conftest.py": "import pytest\nfrom _pytest.terminal import TerminalReporter\n"
        "class Objects:\n    @pytest.fixture\n    def a(self):\n        return 1\n"
        "class Reporter(TerminalReporter):\n    @pytest.fixture\n    def b(self):\n        return 2\n"
        "def pytest_configure(config):\n    config.pluginmanager.register(Objects())\n"
        "    config.pluginmanager.register(Reporter(config), 'second')\n"
        "    config.pluginmanager.getplugin('terminalreporter').c = pytest.fixture(name='c')(lambda: 3)\n",
        "test_x.py": "def test_a(a, b):\n    assert a + b == 3\ndef test_c(c):\n    assert c == 3\n"}),
    "scopes": Scenario({
        "conftest.py": "import pytest\n@pytest.fixture(scope='session')\ndef s():\n    yield []\n    print('s')\n"
        "@pytest.fixture(scope='module')\ndef m(s):\n    s.append(1)\n    yield s\n    assert s == [1]\n",
        "test_x.py": "def test_1(m):\n    assert m == [1]\ndef test_2(m, s):\n    assert m is s\n"}),
    "parameters": Scenario({"test_x.py": "import pytest\n@pytest.mark.parametrize('a', ['x y', 'a::b', '[', 'é'])\n"
                            "def test_p(a):\n    assert a != 'a::b'\n"}),
    "one case": Scenario({"test_x.py": "import pytest\n@pytest.mark.parametrize('a', ['x y', 'a::b'])\n"
                          "def test_p(a):\n    assert a != 'a::b'\n"}, target="test_x.py::test_p[a::b]"),
    "no such case": Scenario({"test_x.py": OK}, target="test_x.py::test_no"),
    "plugin off": Scenario({"test_x.py": "def test_t(tmp_path):\n    pass\n"}, arguments=("-p", "no:tmpdir")),
    "ini": Scenario({"pytest.ini": "[pytest]\naddopts = -v --strict-markers -W error -ra\nmarkers = known: x\n",
                     "test_x.py": "import warnings, pytest\n@pytest.mark.known\ndef test_w():\n    warnings.warn('no')\n"
                     "@pytest.mark.skip(reason='r')\ndef test_s():\n    pass\n"}),
    "unknown marker": Scenario({"pytest.ini": "[pytest]\naddopts = --strict-markers\n",
                                "test_x.py": "import pytest\n@pytest.mark.unknown\ndef test_w():\n    pass\n"}),
    "no capture": Scenario({"conftest.py": "import os\nprint('conftest')\nos.write(2, b'raw\\n')\n",
                            "test_x.py": "def test_p():\n    print('out')\n"}, arguments=("-s",)),
    "sys capture": Scenario({"conftest.py": "print('conftest')\n",
                             "test_x.py": "def test_p():\n    print('out')\n    assert 0\n"}, arguments=("--capture=sys",)),
    "unittest": Scenario({"test_x.py": "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.a = 1\n"
                          "    def test_a(self):\n        for i in range(2):\n            with self.subTest(i=i):\n"
                          "                self.assertEqual(self.a, 1)\n    def test_b(self):\n        self.assertTrue(False)\n"}),
    "doctest": Scenario({"test_x.py": 'def f():\n    """\n    >>> 1 + 1\n    3\n    """\n'},
                        arguments=("--doctest-modules",)),
    "hooks": Scenario({
        "conftest.py": "import sys\ndef pytest_addoption(parser):\n    parser.addoption('--deep', default='no')\n"
        "    parser.addini('flavour', 'x', default='plain')\n"
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'deep: x')\n    sys.stderr.write('configured\\n')\n"
        "def pytest_sessionstart(session):\n    session.config.seen = [session.config.option.deep, session.config.getini('flavour')]\n"
        "def pytest_report_header(config):\n    return f'args {config.args} {config.invocation_params.args[-1]} {sys.argv[-1]}'\n"
        "def pytest_unconfigure(config):\n    sys.stderr.write('over\\n')\n",
        "test_x.py": "def test_a(request):\n    assert request.config.seen == ['yes', 'plain']\n"}, arguments=("--deep=yes",)),
    "collection error": Scenario({"test_x.py": "import nothing_of_this_name\n"}),
    "syntax error": Scenario({"test_x.py": "def test_a(:\n"}),
    "syntax error in a module": Scenario({"test_x.py": "import other\n", "other.py": "def a(:\n"}),
    "nothing collected": Scenario({"test_x.py": "x = 1\n"}),
    "missing file": Scenario({"test_y.py": OK}, target="test_x.py"),
    "exit": Scenario({"test_x.py": "import pytest\ndef test_a():\n    pytest.exit('enough', returncode=7)\ndef test_b():\n    pass\n"}),
    "_exit": Scenario({"test_x.py": "import os\ndef test_a():\n    print('lost')\n    os._exit(9)\n"}),
    "_exit 0": Scenario({"test_x.py": "import os\ndef test_a():\n    print('lost')\n    os._exit(0)\n"}),
    "killed": Scenario({"test_x.py": "import os, signal\ndef test_a():\n    os.kill(os.getpid(), signal.SIGKILL)\n"}),
    "terminated": Scenario({"test_x.py": "import os, signal\ndef test_a():\n    os.kill(os.getpid(), signal.SIGTERM)\n"}),
    "segfault": Scenario({"test_x.py": "import faulthandler\ndef test_a():\n    faulthandler._sigsegv()\n"}, arguments=("-p", "no:faulthandler")),
    "keyboard interrupt": Scenario({"test_x.py": "def test_a():\n    raise KeyboardInterrupt\n"}),
    "interrupted by signal": Scenario({"test_x.py": "import os, signal\ndef test_a():\n    os.kill(os.getpid(), signal.SIGINT)\n"}),
    "system exit": Scenario({"test_x.py": "def test_a():\n    raise SystemExit(3)\n"}),
    "threads": Scenario({"test_x.py": "import threading, time\ndef test_a():\n"
                         "    t = threading.Thread(target=lambda: (time.sleep(0.1), print('late', flush=True)))\n    t.start()\n"
                         "    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"}),
    "pool": Scenario({"test_x.py": "import multiprocessing, concurrent.futures\ndef f(x):\n    return x * x\ndef test_a():\n"
                      "    with multiprocessing.get_context('spawn').Pool(1) as p:\n        assert p.map(f, [2]) == [4]\n"
                      "    assert list(concurrent.futures.ThreadPoolExecutor(1).map(f, [3])) == [9]\n"}),
    "fd 1": Scenario({"test_x.py": "import os, sys, subprocess\ndef test_a():\n    os.write(1, b'raw\\n')\n"
                      "    subprocess.run([sys.executable, '-c', 'print(1)'], check=True)\n    assert 0\n"
                      "def test_b(capfd):\n    os.write(1, b'x')\n    assert capfd.readouterr().out == 'x'\n"}),
    "stdin": Scenario({"test_x.py": "import os, sys\ndef test_a():\n    assert os.fstat(0).st_rdev == os.stat('/dev/null').st_rdev\n"
                       "    assert os.listdir('/proc/self/fd') == ['x']\n    sys.stdin.read()\n"}, arguments=("-s",)),
    "at exit": Scenario({"test_x.py": "import atexit, sys\natexit.register(lambda: sys.stdout.write('bye\\n'))\n"
                         "kept = open('out/kept', 'w')\ndef test_a():\n    kept.write('x' * 9)\n"}),
    "tmp_path": Scenario({"test_x.py": "import tempfile\ndef test_a(tmp_path, tmp_path_factory):\n    (tmp_path / 'a').write_text('x')\n"
                          "    assert tempfile.gettempdir() in str(tmp_path)\n    assert 0\n"}),
    "logging": Scenario({"conftest.py": "import logging\nlogging.getLogger().setLevel('INFO')\n",
                         "test_x.py": "import logging\ndef test_a(caplog):\n    logging.getLogger('n').info('said')\n    assert caplog.text == ''\n"}),
    "main module": Scenario({"test_x.py": "import __main__, sys, os\ndef test_a():\n    print(sorted(vars(__main__)), __main__.__spec__.name)\n"
                             "    print(sys.argv[:3], getattr(sys, 'orig_argv', [0])[1:], sys.path)\n"
                             "    print(os.environ['PYTEST_CURRENT_TEST'], sorted(os.environ))\n    assert 0\n"}),
    "signals": Scenario({"test_x.py": "import signal\ndef test_a():\n    print([(s, str(signal.getsignal(s))) for s in range(1, 32)])\n    assert 0\n"}),
    "conftest error": Scenario({"conftest.py": "raise ValueError('x')\n", "test_x.py": OK}, refused="pytest could not be configured"),
    "bad option": Scenario({"pytest.ini": "[pytest]\naddopts = --no-such-option\n", "test_x.py": OK}, refused="pytest could not be configured"),
    "thread in conftest": Scenario({"conftest.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='bg').start()\n",
                                    "test_x.py": OK}, refused="threads run: bg"),
    "socket in conftest": Scenario({"conftest.py": "import socket\nkept = socket.socketpair()\n", "test_x.py": OK}, refused="conftest files or plugins hold open socket"),
    "process in conftest": Scenario({"conftest.py": "import subprocess\nkept = subprocess.Popen(['true'])\n", "test_x.py": OK},
                                    refused="conftest files or plugins have started processes"),
    "loop in conftest": Scenario({"conftest.py": "import asyncio\nloop = asyncio.new_event_loop()\n", "test_x.py": OK}, refused="conftest files or plugins hold open"),
    "package": Scenario({"pkg/__init__.py": "", "pkg/sub/__init__.py": "print('sub')\n", "pkg/sub/test_x.py": "from .. import other\ndef test_a():\n    assert other.x == 2\n",
                         "pkg/other.py": "x = 1\n"}, target="pkg/sub/test_x.py"),
    "helper warns": Scenario({"helper.py": "import warnings\nwarnings.warn('once')\nx = '\\d'\n", "test_x.py": "import helper\n" + OK}),
    "importlib mode": Scenario({"test_x.py": OK, "sub/test_x.py": OK}, target="sub/test_x.py", arguments=("--import-mode=importlib",)),
    "asyncio": Scenario({"pytest.ini": "[pytest]\nasyncio_mode = auto\n", "test_x.py": "import asyncio\nasync def test_a():\n    await asyncio.sleep(0)\n"
                         "async def test_b():\n    assert asyncio.get_running_loop() is None\n"}, needs="pytest_asyncio"),
    "timeout": Scenario({"test_x.py": "import time\ndef test_a():\n    time.sleep(5)\n"}, arguments=("--timeout=0.3",), needs="pytest_timeout"),
    "timeout by thread": Scenario({"test_x.py": OK}, arguments=("--timeout=9", "--timeout-method=thread"), needs="pytest_timeout"),
    "hypothesis": Scenario({"test_x.py": "from hypothesis import given, settings, strategies as st\n@settings(derandomize=True, database=None)\n@given(st.integers())\n"
                            "def test_a(x):\n    assert x < 1000\n"}, needs="hypothesis"),
    "mock": Scenario({"test_x.py": "import os\ndef test_a(mocker):\n    mocker.patch('os.getcwd', return_value='x')\n    assert os.getcwd() == 'x'\n"}, needs="pytest_mock"),
    "randomly": Scenario({"test_x.py": "import random\n" + "".join(f"def test_{i}():\n    print(random.random())\n    assert {i} % 2\n" for i in range(6))},
                         arguments=("--randomly-seed=3",), needs="pytest_randomly"),
    "xdist": Scenario({"pytest.ini": "[pytest]\naddopts = -n 2 --dist loadfile\n", "test_x.py": OK + "def test_no():\n    assert 0\n"}, needs="xdist"),
    "coverage": Scenario({"mod.py": "def f(x):\n    if x:\n        return 1\n    return 2\n", "test_x.py": "import mod\ndef test_a():\n    assert mod.f(1) == 1\n"},
                         arguments=("--cov=mod", "--cov-branch", "--cov-report=term-missing"), needs="pytest_cov"),
}  # fmt: skip


def can_import(module: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def make_project(folder: Path, files: dict[str, str]) -> None:
    (folder / "out").mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_as_a_pytest_of_its_own(tmp_path: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    if scenario.needs is not None and not can_import(scenario.needs):
        pytest.skip(f"{PYTHON} has no {scenario.needs}")
    plugin = () if scenario.needs is None else ("-p", PLUGINS.get(scenario.needs, scenario.needs))
    arguments = (*PLAIN, *plugin, *scenario.arguments)
    first = str(Path(scenario.target).parent / "test_first.py")
    make_project(
        tmp_path,
        {
            **scenario.files,
            first: "import os\ndef test_first(capfd):\n    os.write(1, b'left')\n    os._exit(0)\n",
        },
    )
    argv = words(tmp_path, scenario.target, arguments)
    plain = run_plain(tmp_path, argv, scenario.env)
    with Preloaded(tmp_path, scenario.env) as server:
        server.ask(words(tmp_path, first, arguments))
        forked = [server.ask(argv) for _ in range(2)]
    if scenario.refused is not None:
        assert forked == [None, None]
        assert f": {scenario.refused}" in server.answer
    else:
        assert forked == [plain, plain]


COLLECTED = {
    "package under test": {"conftest.py": "import pytest\n@pytest.fixture\ndef a():\n    return [1]\n",
                           "mod.py": "calls = []\n", "test_x.py": "import mod\ndef test_1(a):\n    mod.calls.append(1)\n"
                           "    assert mod.calls == a\ndef test_2():\n    assert mod.calls == [2]\n"},
    "unknown marker": {"pytest.ini": "[pytest]\naddopts = --strict-markers\n", "test_x.py": "import pytest\n@pytest.mark.no\n" + OK},
    "registered marker": {"conftest.py": "def pytest_configure(config):\n    config.addinivalue_line('markers', 'yes: x')\n",
                          "test_x.py": "import pytest\n@pytest.mark.yes\n" + OK},
    "warns": {"test_x.py": "import warnings\nwarnings.warn('at import')\n" + OK},
    "writes": {"test_x.py": "print('at import')\nassert 0\n"},
    "skips": {"test_x.py": "import pytest\npytest.skip('all', allow_module_level=True)\n"},
    "broken": {"test_x.py": "import nothing_of_this_name\n"},
}  # fmt: skip


@pytest.mark.parametrize("name", COLLECTED)
def test_same_where_modules_are_imported_ahead(tmp_path: Path, name: str) -> None:
    make_project(tmp_path, {**COLLECTED[name], "test_first.py": OK})
    argv = words(tmp_path, "test_x.py")
    plain = run_plain(tmp_path, argv, {})
    with Preloaded(tmp_path, mode=Preload.COLLECT) as server:
        assert server.ask(words(tmp_path, "test_first.py"))
        assert [server.ask(argv) for _ in range(2)] == [plain, plain]


def test_a_module_is_imported_once_for_all_its_cases(tmp_path: Path) -> None:
    once = "p.write_text('x' + (p.read_text() if p.exists() else ''))"
    text = f"import pathlib\np = pathlib.Path('out/imports')\n{once}\n" + OK + "def test_b():\n    pass\n"
    make_project(tmp_path, {"test_x.py": text})
    with Preloaded(tmp_path, mode=Preload.COLLECT) as server:
        for case in ("ok", "b"):
            seen = server.ask(words(tmp_path, f"test_x.py::test_{case}"))
            assert seen is not None and seen.code == 0  # noqa: PT018
    assert (tmp_path / "out" / "imports").read_text() == "x"


def test_a_killed_parent_is_seen_and_the_next_test_runs(tmp_path: Path) -> None:
    text = "import os, signal\ndef test_a():\n    os.kill(os.getppid(), signal.SIGKILL)\n"
    make_project(tmp_path, {"test_x.py": text, "test_y.py": OK})
    with Preloaded(tmp_path) as server:
        lost = server.ask(words(tmp_path, "test_x.py"))
        assert lost is not None and lost.code == 137  # noqa: PT018
        after = server.ask(words(tmp_path, "test_y.py"))
        assert after is not None and after.code == 0  # noqa: PT018


def test_signals_to_all_end_the_test_and_not_the_server(tmp_path: Path) -> None:
    text = "import os, time\ndef test_a():\n    open('out/runs', 'w').close()\n    time.sleep(60)\n"
    make_project(tmp_path, {"test_x.py": text, "test_y.py": OK})
    with Preloaded(tmp_path) as server:
        assert server.ask(words(tmp_path, "test_y.py"))
        pids = server.pids

        def end_all() -> None:
            while not (tmp_path / "out" / "runs").exists():
                time.sleep(0.02)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                for pid in pids:
                    os.kill(pid, number)
            (child,) = Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)

        thread = threading.Thread(target=end_all)
        thread.start()
        ended = server.ask(words(tmp_path, "test_x.py"))
        thread.join()
        assert ended is not None and ended.code == 143  # noqa: PT018
        assert server.ask(words(tmp_path, "test_y.py")) is not None
        assert server.pids == pids


def test_a_helper_is_compiled_once_and_again_when_it_changes(tmp_path: Path) -> None:
    make_project(
        tmp_path, {"helper.py": "x = 1\n", "test_x.py": "import helper\ndef test_a():\n    assert helper.x == 1\n"}
    )
    argv = words(tmp_path, "test_x.py")
    with Preloaded(tmp_path) as server:
        codes = [server.ask(argv), server.ask(argv)]
        (tmp_path / "helper.py").write_text("x = 2\n")
        codes.append(server.ask(argv))
    assert [seen.code for seen in codes if seen] == [0, 0, 1]
