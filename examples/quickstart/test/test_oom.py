# Ends as: oom. The test itself takes more memory than its profile grants.
def test_takes_too_much_memory():
    taken = [bytearray(b"x" * 8 * 2**20) for _ in range(128)]  # 1 GiB, should there be no limit
    raise AssertionError(f"nothing stopped a test that took {len(taken) * 8} MiB")
