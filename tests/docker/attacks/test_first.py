def test_nothing() -> None:
    """So that the one after it is forked from a server that has run a test."""
