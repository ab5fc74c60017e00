from __future__ import annotations

import re
import uuid
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import labels
from orchestrator.engine.base import FoundObject
from orchestrator.engine.labels import Owner, container_labels, container_name, is_ours
from tests.support.handmade import make_assignment

RUN = str(uuid.uuid4())
OWNER = Owner(run_id=RUN, token="boot:1:2", work_dir="/tmp/orch-x")
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=400)


def test_names_that_differ_in_case_and_punctuation_only() -> None:
    paths = [
        "t/a-b.sh",
        "t/a_b.sh",
        "t/A-b.sh",
        "t.a.b.sh",
        "t/a b.sh",
        "t/a\nb.sh",
        "t/a\0b.sh",
        "-t/a-b.sh",
        "t/a-b.sh ",
    ]
    names = {container_name(make_assignment(run_id=RUN, path=path)) for path in paths}
    assert len(names) == len(paths)


def test_attempts_repetitions_cases_and_runs_have_names_of_their_own() -> None:
    base = make_assignment(run_id=RUN)
    others = [
        base,
        replace(base, attempt=2),
        replace(base, repetition=2),
        replace(base, attempt=11, repetition=1),
        replace(base, attempt=1, repetition=11),
        replace(base, run_id=str(uuid.uuid4())),
        make_assignment(run_id=RUN, case="c"),
    ]
    assert len({container_name(one) for one in others}) == len(others)
    assert container_name(base) == container_name(replace(base, reason="other"))


@given(TEXT)
def test_any_id_makes_a_name_that_engines_take(path: str) -> None:
    name = container_name(make_assignment(run_id=RUN, path=path))
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", name)
    assert name.startswith(f"orch-{RUN[:8]}-")
    assert len(name) < 90


@given(TEXT)
def test_all_labels_are_there_and_bounded(path: str) -> None:
    assignment = make_assignment(run_id=RUN, path=path)
    made = container_labels(assignment, OWNER, "n")
    assert set(made) == {
        labels.MANAGED,
        labels.RUN,
        labels.TEST,
        labels.PROFILE,
        labels.ATTEMPT,
        labels.OWNER,
        labels.NAME,
        labels.WORK_DIR,
    }
    assert all(len(value) <= 500 for value in made.values())
    assert labels.run_filter(RUN).items() <= made.items()


def found(name: str, carried: dict[str, str]) -> FoundObject:
    return FoundObject(kind="container", id="i", name=name, labels=carried)


def test_ours_is_what_carries_its_own_name() -> None:
    made = container_labels(make_assignment(run_id=RUN), OWNER, "orch-1")
    assert is_ours(found("orch-1", made))
    assert not is_ours(found("somebodys", made)), "labels inherited from an image"
    assert not is_ours(found("orch-1", {}))
    for missing in (labels.MANAGED, labels.RUN, labels.NAME):
        assert not is_ours(found("orch-1", {key: value for key, value in made.items() if key != missing}))
    assert not is_ours(found("orch-1", {**made, labels.MANAGED: "false"}))
