"""The names and labels of everything that orch makes, and how it knows its own again.

Nothing unlabelled is made. A container inherits the labels of its image, so a label alone proves nothing:
an object is ours when its own name stands in its labels too, which no inherited label can say.
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
"""The run's temporary folder, which a later clean-up removes with the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The run that an object belongs to."""

    run_id: str
    token: str
    """boot id:pid:start time of the orch that made it; see measure.processes."""
    work_dir: str


def container_name(assignment: Assignment) -> str:
    """Deterministic and unique in a run: names that differ in punctuation or case only get different digests."""
    identity = f"{assignment.test.id}\0{assignment.repetition}\0{assignment.attempt}"
    digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16]
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", str(assignment.test.id))[-40:].strip("-").lower()
    return f"orch-{assignment.run_id[:8]}-{readable or 'test'}-{digest}"


def container_labels(assignment: Assignment, owner: Owner, name: str) -> dict[str, str]:
    """All labels of a test's container."""
    return {
        **helper_labels(owner, name),
        TEST: str(assignment.test.id).encode(errors="replace").decode()[:500],
        PROFILE: assignment.profile.name,
        ATTEMPT: str(assignment.attempt),
    }


def helper_labels(owner: Owner, name: str) -> dict[str, str]:
    """Labels of a container that runs no test (a shell, a self-test)."""
    return {MANAGED: "true", RUN: owner.run_id, OWNER: owner.token, NAME: name, WORK_DIR: owner.work_dir}


def is_ours(found: FoundObject) -> bool:
    """True only for what orch itself made: the name in its labels is its own."""
    return found.labels.get(MANAGED) == "true" and found.labels.get(NAME) == found.name and RUN in found.labels


def run_filter(run_id: str) -> Mapping[str, str]:
    """Labels by which the engine finds a run's objects; check each with `is_ours`."""
    return {MANAGED: "true", RUN: run_id}
