"""memory-over: needs more than its limit and is killed."""

held = bytearray(200 * 1024 * 1024)
