"""Stored and printed text contains no secrets (CASES D10)."""

import pytest

from orchestrator.redaction import is_secret_name, redact, redact_values


@pytest.mark.parametrize(
    ("word", "stored"),
    [
        ("test/", "test/"),
        ("postgresql://u:p%40ss@h/db", "postgresql://u:***@h/db"),
        ("--db=postgresql://u:pw@h/db", "--db=postgresql://u:***@h/db"),
        ("GITHUB_TOKEN=abc", "GITHUB_TOKEN=***"),
        ("--api-key=abc\ndef", "--api-key=***"),
        ("key=value", "key=***"),
        ("monkeys=3", "monkeys=3"),
        ("postgresql://me:s3cret@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:a@b:c@db/x", "postgresql://me:***@db/x"),
        (
            "--db=postgresql://h/x?user=u&password=pw&sslmode=on",
            "--db=postgresql://h/x?user=u&password=***&sslmode=on",
        ),
        ("--env=API_TOKEN=abc def", "--env=API_TOKEN=***"),
        ("API_TOKEN=http://h/x", "API_TOKEN=***"),
        ("test/test_keys.py", "test/test_keys.py"),
    ],
)
def test_passwords_and_values_of_secrets_are_masked(word, stored):
    assert redact(word) == stored


def test_a_secret_is_told_by_the_end_of_its_name():
    names = ("API_TOKEN", "api_key", "MONKEYS", "PASSWORDS", "SECRET", "")
    assert [name for name in names if is_secret_name(name)] == ["API_TOKEN", "api_key", "SECRET"]
    assert redact_values({"API_TOKEN": "a", "PLAIN": "b"}) == {"API_TOKEN": "***", "PLAIN": "b"}
