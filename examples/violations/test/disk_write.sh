# disk-write: its image has a volume, the only place of a test that is not in memory.
dd if=/dev/zero of=/data/fill bs=1048576 count=8 conv=fsync 2>/dev/null
