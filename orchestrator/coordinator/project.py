"""The id of the project in a database, which is kept in the state folder (docs/design/database/projects.md)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

from orchestrator.database.rows.encoding import content_id
from orchestrator.errors import StateError, UsageError
from orchestrator.text import one_line, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.model.stored import ProjectRow

ID_FILE = "project"
"""File of the state folder that holds the id."""
_ID = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")
_URL = re.compile(r"(?!file:)[A-Za-z][\w+.-]*://(?:[^/@]*@)?(?P<host>\[[^\]/]+\]|[^/:@]+)(?::\d*)?/(?P<path>.+)")
_SCP = re.compile(r"(?:[^/@:]+@)?(?P<host>[^/:@]+):(?P<path>.+)")
"""The short form `git@host:owner/name`, which git accepts if no slash precedes the colon."""
_SHOWN = 3
"""The number of other projects that a notice names."""


def project_name(config: Config) -> str:
    """Return the name of the project's folder."""
    return config.project_root.resolve().name


def kept_id(state_dir: Path) -> str | None:
    """Return the id in the state folder, or None if there is none yet. Raises StateError if it cannot be read."""
    path = state_dir / ID_FILE
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read the project's id in {path}: {error}") from error
    if not _ID.fullmatch(text):
        raise StateError(
            f"{path} does not contain the id of a project: one line of at most 200 characters is expected",
            remedy="remove it: the next run takes the id from the resource database, or creates one",
        )
    return text


def found_id(config: Config, known: Sequence[ProjectRow]) -> str | None:
    """Return the id of a project whose state folder has none, or None if a new one is needed.

    `known` are the projects of the database. A single project in the state folder's own database is this one.
    Otherwise the id is derived from the origin of the sources in git, which is the same in every clone. A database
    from before schema 8 may have the name of the folder as id.
    """
    if config.database_url is None and len(known) == 1:
        return known[0].id
    ids = {project.id for project in known}
    by_sources, by_name = id_of_sources(config.project_root), project_name(config)
    return by_name if by_sources not in ids and by_name in ids else by_sources


def keep_id(config: Config, wanted: str | None) -> str:
    """Write the id to the state folder unless it has one, and return the id that is there.

    For None, a new id is created. Raises UsageError if the folder cannot be written.
    """
    path = config.state_dir / ID_FILE
    kept = kept_id(config.state_dir)
    if kept is not None:
        return kept
    draft = path.with_name(f".{ID_FILE}-{uuid.uuid4().hex}")
    project = wanted or str(uuid.uuid4())
    try:
        config.state_dir.mkdir(parents=True, exist_ok=True)
        draft.write_text(f"{project}\n", encoding="utf-8")
        try:
            _publish(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write the project's id to {path}: {error.strerror}",
            remedy="make the project writable, or set state_dir in profiles.yaml or ORCH_STATE_DIR",
        ) from error
    return kept_id(config.state_dir) or project


def _publish(draft: Path, path: Path) -> None:
    """Move the draft to `path` atomically. If another run has written `path` in the meantime, keep that file."""
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        draft.replace(path)


def id_of_sources(root: Path) -> str | None:
    """Return an id that is the same in every clone of a repository, or None if git cannot say.

    It is derived from the address of the remote `origin` if that is on a host, else from the first commit; and
    from the folder within the repository.
    """
    if shutil.which("git") is None:
        return None
    folder = _git(root, "rev-parse", "--show-prefix")
    if folder is None:
        return None
    place = _address(_git(root, "config", "--get", "remote.origin.url") or "") or _first_commit(root)
    return content_id("project", [place, folder]) if place else None


def _address(url: str) -> str | None:
    """Return the address of a repository as `host/owner/name`, or None if it is not on a host."""
    found = _URL.fullmatch(url) or (None if "://" in url else _SCP.fullmatch(url))
    if found is None:
        return None
    return f"{found['host'].lower()}/{found['path'].strip('/').removesuffix('.git')}"


def _first_commit(root: Path) -> str | None:
    """Return the first commit, or None. A shallow clone has none: its oldest commit depends on its depth."""
    if _git(root, "rev-parse", "--is-shallow-repository") != "false":
        return None
    roots = (_git(root, "rev-list", "--max-parents=0", "HEAD") or "").split()
    return roots[-1] if roots else None


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def scope_text(known: Sequence[ProjectRow], project: str | None) -> str | None:
    """Return a text that says which project is shown, or None if the database has no other project."""
    here = next((one for one in known if one.id == project), None)
    others = [one for one in known if one is not here]
    if not others:
        return None
    if here is not None:
        rest = plural(len(others), "other project")
        return f"project {_label(here, known)} only; the database has {rest}: {_listed(others, known)}"
    if len(known) == 1:
        rest = "the only one in the database; this folder has no runs there"
        return f"showing project {_label(known[0], known)}, {rest}"
    return (
        f"nothing to show: the database has no runs of this folder, only of {_listed(others, known)};"
        " run orch in the folder of one of them"
    )


def _listed(some: Sequence[ProjectRow], known: Sequence[ProjectRow]) -> str:
    named = ", ".join(_label(one, known) for one in some[:_SHOWN])
    return f"{named} and {len(some) - _SHOWN} more" if len(some) > _SHOWN else named


def _label(project: ProjectRow, known: Sequence[ProjectRow]) -> str:
    """Return the name of a project, followed by its id if another project has the same name."""
    name = one_line(project.name, 60)
    alike = sum(one.name == project.name for one in known) > 1
    return f"{name} ({one_line(project.id[:8])})" if alike else name
