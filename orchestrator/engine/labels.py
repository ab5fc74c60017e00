"""The names and labels of all objects that orch creates in an engine, and how it recognises them.

A container inherits the labels of its image, so a label alone does not prove who created it. Each object therefore
has its own name in a label too, which an inherited label cannot contain.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engine.base import FoundObject
    from orchestrator.model.tests import Assignment

MANAGED = "io.orch.managed"
RUN = "io.orch.run"
TEST = "io.orch.test"
PROFILE = "io.orch.profile"
ATTEMPT = "io.orch.attempt"
OWNER = "io.orch.owner"
NAME = "io.orch.name"
WORK_DIR = "io.orch.place"
"""The label with the run's temporary folder, which `orch clean` removes together with the run's containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The run that an object belongs to, and the process that runs it."""

    run_id: str
    token: str
    """Identifies the orch process as `boot id:pid:start time`; see measure.processes."""
    work_dir: str


def container_name(assignment: Assignment) -> str:
    """Return the name of a test's container: deterministic, and unique within a run.

    Test ids that differ in punctuation or case only have different digests.
    """
    identity = f"{assignment.test.id}\0{assignment.repetition}\0{assignment.attempt}"
    digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16]
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", str(assignment.test.id))[-40:].strip("-").lower()
    return f"orch-{assignment.run_id[:8]}-{readable or 'test'}-{digest}"


def container_labels(assignment: Assignment, owner: Owner, name: str) -> dict[str, str]:
    """Return all labels of a test's container."""
    return {
        **helper_labels(owner, name),
        TEST: str(assignment.test.id).encode(errors="replace").decode()[:500],
        PROFILE: assignment.profile.name,
        ATTEMPT: str(assignment.attempt),
    }


def helper_labels(owner: Owner, name: str) -> dict[str, str]:
    """Return the labels of a container that runs no test (a shell, a self-test, an image's preparation)."""
    return {MANAGED: "true", RUN: owner.run_id, OWNER: owner.token, NAME: name, WORK_DIR: owner.work_dir}


def is_ours(found: FoundObject) -> bool:
    """Return whether orch created the object: the name in its labels is the object's own name."""
    return found.labels.get(MANAGED) == "true" and found.labels.get(NAME) == found.name and RUN in found.labels


def run_filter(run_id: str) -> Mapping[str, str]:
    """Return the labels by which the engine finds a run's objects; check each object with `is_ours`."""
    return {MANAGED: "true", RUN: run_id}
