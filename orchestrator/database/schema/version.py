"""The numbers that identify a database file of orch. They are here so that they can be read without SQLAlchemy."""

SCHEMA_VERSION = 11
"""The number of the newest revision. `alembic_version` holds it as `0011`, SQLite's user_version as 11."""
OLDEST_VERSION = 7
"""The oldest revision that can be upgraded: nothing older was ever released."""
APPLICATION_ID = 0x6F726368
"""SQLite's application_id in files of orch: "orch" in ASCII. It tells them from databases of other programs."""
