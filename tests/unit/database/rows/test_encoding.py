import time
import uuid
import zlib
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.database.rows import encoding
from orchestrator.database.rows.bundles import COPIED_FROM_ATTEMPT, Bundle, result_bundle
from orchestrator.database.store.spool import from_line, to_line, upgrade_bundle
from orchestrator.model.tests import TestId
from orchestrator.model.usage import Sample
from tests.unit.database.database_examples import NOW, make_result, make_run

any_text = st.text(st.characters(), max_size=300)  # lone surrogates included
sample = st.builds(
    Sample,
    at_seconds=st.floats(0, 1e6),
    memory_bytes=st.none() | st.integers(0, 2**62),
    pids=st.none() | st.integers(0, 1000),
    memory_pressure_ratio=st.none() | st.floats(0, 1),
)


@given(any_text)
def test_clean_text_can_be_stored_and_is_unchanged_when_it_was_clean(text):
    cleaned = encoding.clean(text)
    assert "\0" not in cleaned
    cleaned.encode("utf-8")
    assert encoding.clean(cleaned) == cleaned
    if "\0" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text):
        assert cleaned == text


@given(st.lists(sample, max_size=30))
def test_samples_come_back(samples):
    assert encoding.unpack_samples(encoding.pack_samples(samples)) == tuple(samples)


@given(st.lists(st.tuples(st.builds(TestId, path=any_text, case=st.none() | any_text), st.integers(1, 99))))
def test_plans_come_back(plan):
    assert encoding.unpack_plan(encoding.pack_plan(plan)) == tuple(plan)


@pytest.mark.parametrize("data", [b"", b"noise", zlib.compress(b"[1,2")[:-3], zlib.compress(b"not json")])
def test_damaged_packed_values_are_value_errors(data):
    with pytest.raises(ValueError, match=r".+"):
        encoding.unpack(data)


def test_packed_data_that_expands_beyond_the_limit_is_refused():
    with pytest.raises(ValueError, match="64 MiB"):
        encoding.unpack(zlib.compress(b" " * (65 * 2**20)))


@given(st.builds(TestId, path=any_text, case=st.none() | any_text), st.builds(TestId, path=any_text))
def test_tests_have_one_key_each(one, other):
    assert (encoding.key_of_test("p", one) == encoding.key_of_test("p", other)) == (one == other)
    assert encoding.key_of_test("p", one) != encoding.key_of_test("q", one)


@given(st.datetimes(timezones=st.just(UTC)), st.binary(max_size=50), any_text)
def test_spooled_bundles_come_back(moment, data, text):
    bundle = Bundle(kind="result", run_id="r", tables={"attempts": [{"at": moment, "data": data, "text": text}]})
    line = to_line(bundle)
    assert "\n" not in line
    (row,) = from_line(line).tables["attempts"]
    assert (row["at"], row["data"], row["text"]) == (moment, data, text)


@pytest.mark.parametrize(
    "line", ["", "x", "[]", "{}", '{"version": 2}', '{"version": 1, "kind": "drop", "tables": {}}']
)
def test_other_lines_are_no_bundles(line):
    with pytest.raises(ValueError, match=r".+"):
        from_line(line)


def test_violations_that_were_spooled_before_schema_7_get_what_their_attempt_has():
    run = make_run()
    bundle = result_bundle(run.id, run.project_id, make_result(run))
    (row,) = bundle.tables["violations"]
    old = {name: value for name, value in row.items() if name not in COPIED_FROM_ATTEMPT}
    spooled = to_line(replace(bundle, tables={**bundle.tables, "violations": [old]}))
    assert upgrade_bundle(from_line(spooled)) == upgrade_bundle(bundle) == bundle
    assert {row[name] for name in ("is_final", "started_at")} == {True, NOW}


def test_ids_of_attempts_are_valid_unlike_and_in_the_order_of_time():
    before = time.time_ns() // 1_000_000
    first = [uuid.UUID(encoding.attempt_id()) for _ in range(1000)]
    time.sleep(0.002)
    later = uuid.UUID(encoding.attempt_id())
    assert {(one.version, one.variant) for one in first} == {(7, uuid.RFC_4122)}
    assert len(set(first)) == 1000
    assert all(one < later for one in first)
    assert before <= first[0].int >> 80 <= time.time_ns() // 1_000_000
