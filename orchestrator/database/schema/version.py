"""The numbers that a database file of ours is known by; for those who look at one without SQLAlchemy too."""

SCHEMA_VERSION = 9
"""Number of the newest revision; `alembic_version` holds it as `0009`, SQLite's user_version as 9."""
APPLICATION_ID = 0x6F726368
"""SQLite's application_id of our files: "orch" in ASCII. How they are told from other programs' databases."""
