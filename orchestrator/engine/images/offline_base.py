"""Makes a Debian or Ubuntu base image from this machine's package mirror, for use without a registry.

The mirror's addresses are read from the machine's apt configuration, and are written to that image only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from orchestrator.engine.locks import make_cache_folder, named_lock
from orchestrator.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import BinaryIO

    from orchestrator.engine.base import ImageEngine

LABEL = "io.orch.offline-base"
"""The label of an offline base, with its time of creation (ISO 8601), and of images built on it."""
FRESH = timedelta(days=30)
"""The age at which a base is made again, to get the mirror's security fixes."""
_MAKE_SECONDS = 1200.0
_INSTALL_SECONDS = 300.0
_REACHABLE = ("http://", "https://")
"""The mirrors that a build in a container can reach; not file: and cdrom:."""
_WITHOUT = tuple(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "locale"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource:
    """One apt source: a `deb` line."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None = None

    def line(self) -> str:
        """Return the source as a line of sources.list."""
        options = f" [signed-by={self.signed_by}]" if self.signed_by else ""
        return f"deb{options} {self.uri} {self.suite} {' '.join(self.components)}"


def ensure_offline_base(engine: ImageEngine, on_line: Callable[[str], None]) -> str:
    """Return the ID of the offline base; make it if there is none younger than 30 days. Raises ImageError."""
    release = _os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    codename = release.get("VERSION_CODENAME", "")
    if not {release.get("ID"), *release.get("ID_LIKE", "").split()} & {"debian", "ubuntu"} or not codename:
        raise ImageError(
            "an offline base can be made on a Debian or Ubuntu machine only",
            remedy="load an image by hand (docker load) and name it in the build argument BASE_IMAGE",
        )
    reference = f"orch/offline-base:{codename}-{platform.machine()}"
    with named_lock(reference, lambda: on_line("another orch is making the offline base: waiting")):
        found = engine.find_image(reference)
        if found is not None and _is_fresh(engine.image_labels(found).get(LABEL, "")):
            on_line(f"using the offline base {reference}")
            return found
        sources = machine_sources(codename)
        _ensure_mmdebstrap(on_line)
        on_line(f"making the offline base {reference} from this machine's package mirror: a minute or two")
        return _make(engine, codename, sources, reference)


def machine_sources(codename: str, etc: Path = Path("/etc/apt")) -> tuple[AptSource, ...]:
    """Return the machine's apt sources of the release `codename`. Raises ImageError if none is reachable."""
    found: dict[AptSource, None] = {}
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        parsed = (
            parse_deb822(text)
            if path.suffix == ".sources"
            else parse_one_line(text)
            if path.suffix == ".list"
            else ()
        )
        found.update(dict.fromkeys(parsed))
    chosen = tuple(
        source
        for source in found
        if (source.suite == codename or source.suite.startswith(f"{codename}-"))
        and "main" in source.components
        and source.uri.startswith(_REACHABLE)
    )
    if not any(source.suite == codename for source in chosen):
        raise ImageError(
            f"apt on this machine has no http source for {codename} main, so no offline base can be made",
            remedy="add one to /etc/apt/sources.list.d, or name an image in the build argument BASE_IMAGE",
        )
    return chosen


def parse_one_line(text: str) -> tuple[AptSource, ...]:
    """Parse the `deb` lines of a sources.list; lines of another form are skipped."""
    sources = []
    for raw in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]+)", raw)
        if match is None:
            continue
        options = dict(word.split("=", 1) for word in (match.group(1) or "").split() if "=" in word)
        sources.append(
            AptSource(
                uri=match.group(2),
                suite=match.group(3),
                components=tuple(match.group(4).split()),
                signed_by=_keyring(options.get("signed-by", "")),
            )
        )
    return tuple(sources)


def parse_deb822(text: str) -> tuple[AptSource, ...]:
    """Parse the enabled `deb` stanzas of a .sources file."""
    sources: list[AptSource] = []
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n[ \t]*\n", uncommented):
        fields = {
            key.lower(): value.strip()
            for key, value in re.findall(r"(?m)^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)", stanza)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        sources.extend(
            AptSource(
                uri=uri,
                suite=suite,
                components=tuple(fields.get("components", "").split()),
                signed_by=_keyring(fields.get("signed-by", "")),
            )
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        )
    return tuple(sources)


def _keyring(value: str) -> str | None:
    """Return the keyring if the new base will have it too, else None for apt's trusted keys."""
    return value if value.startswith("/usr/share/keyrings/") and " " not in value else None


def _is_fresh(made: str) -> bool:
    try:
        return datetime.now(UTC) - datetime.fromisoformat(made) < FRESH
    except (ValueError, TypeError):  # no date, or one without a time zone
        return False


def _os_release(text: str) -> Mapping[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip().strip("\"'") for key, value in pairs}


def _ensure_mmdebstrap(on_line: Callable[[str], None]) -> None:
    if shutil.which("mmdebstrap"):
        return
    if os.geteuid() != 0:
        raise ImageError("mmdebstrap is needed to make the offline base", remedy="sudo apt-get install mmdebstrap")
    on_line("installing mmdebstrap")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "mmdebstrap")
    for command in (("apt-get", "update", "-q"), install):
        _run(command, env=env, seconds=_INSTALL_SECONDS, remedy="apt-get install mmdebstrap")


def _make(engine: ImageEngine, codename: str, sources: Iterable[AptSource], reference: str) -> str:
    command = ("mmdebstrap", "--variant=minbase", "--format=tar", *_options(), codename, "-", "-")
    lines = "".join(f"{source.line()}\n" for source in sources)
    with tempfile.TemporaryFile(dir=make_cache_folder()) as archive:
        _run(
            command,
            env=os.environ,
            seconds=_MAKE_SECONDS,
            remedy="check apt-get update",
            text=lines,
            output=archive,
        )
        archive.seek(0)
        labels = {LABEL: datetime.now(UTC).isoformat(timespec="seconds")}
        return engine.import_rootfs(cast("BinaryIO", archive), reference, labels)


def _options() -> tuple[str, ...]:
    """Return mmdebstrap's options: without documentation, with the machine's apt proxy, which builds need too."""
    options = [f"--dpkgopt={exclusion}" for exclusion in _WITHOUT]
    if shutil.which("apt-config"):
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=30)
        for name, value in re.findall(r'(?m)^(Acquire::https?::Proxy) "([^"]+)";$', dump.stdout):
            options.append(f'--aptopt={name} "{value}"')
    return tuple(options)


def _run(
    command: tuple[str, ...],
    *,
    env: Mapping[str, str],
    seconds: float,
    remedy: str,
    text: str = "",
    output: object = subprocess.DEVNULL,
) -> None:
    """Run a command to its end. Raises ImageError with the last lines of its messages if it fails."""
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            stdout=output,  # type: ignore[call-overload] # a file or DEVNULL
            stderr=subprocess.PIPE,
            env=env,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{command[0]} did not end within {seconds:.0f} s", remedy=remedy) from error
    except OSError as error:
        raise ImageError(f"{command[0]} could not be started: {error.strerror}", remedy=remedy) from error
    if done.returncode != 0:
        tail = "\n  ".join(done.stderr.decode(errors="replace").splitlines()[-10:])
        raise ImageError(f"{command[0]} failed with exit code {done.returncode}:\n  {tail}", remedy=remedy)
