# Ends as: crashed, by SIGSEGV.
import ctypes


def test_reads_where_nothing_is():
    ctypes.string_at(0)
