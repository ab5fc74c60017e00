"""Every part of the request for a container has a mutation, which tests/docker/test_mutations_real.py tries."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from orchestrator.engine.base import ContainerSpec
from orchestrator.engine.docker.inspected_settings import NEVER_REQUESTED
from orchestrator.engine.docker.messages import container_config
from orchestrator.engine.isolation.hardening import ContainerContext, container_spec
from tests.support.handmade import make_profile
from tests.support.mutations import FIELDS_LEFT_ALONE, KEYS_LEFT_ALONE, MUTATIONS, Mutation, mutated

SPEC = container_spec(
    make_profile(),
    ContainerContext(project_root=Path("/p"), state_dir=Path("/p/.orch"), seccomp="{}", counters=()),
    name="n",
    image_id="sha256:1",
    labels={"io.orch.profile": "small"},
    streams_dir=Path("/s"),
    cgroup_parent="/orch-1",
)
BODY = container_config(SPEC, hosts_file=Path("/h"))


def test_every_key_of_the_request_is_tried_or_left_alone_for_a_reason() -> None:
    tried = {mutation.key for mutation in MUTATIONS} | KEYS_LEFT_ALONE.keys()
    assert BODY.keys() | BODY["HostConfig"].keys() <= tried
    assert KEYS_LEFT_ALONE.keys() <= BODY.keys()


def test_every_field_of_a_container_is_tried_or_left_alone_for_a_reason() -> None:
    tried = {name for mutation in MUTATIONS for name in mutation.fields}
    assert {f.name for f in fields(ContainerSpec)} == tried | FIELDS_LEFT_ALONE.keys()


def test_what_is_never_asked_and_tried_is_looked_for() -> None:
    asked = BODY.keys() | BODY["HostConfig"].keys()
    by_name = {mutation.key for mutation in MUTATIONS} - asked - {"MaskedPaths", "ReadonlyPaths"}
    assert by_name <= set(NEVER_REQUESTED)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.item)
def test_a_mutation_changes_the_request(mutation: Mutation) -> None:
    assert mutated(BODY, mutation) != BODY
