def test_nothing() -> None:
    """Do nothing. The test after this one is then forked from a server that has run a test."""
