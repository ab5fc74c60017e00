"""Encode values for columns: text that every database accepts, JSON, compressed series. Pure functions."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import time
import uuid
import zlib
from dataclasses import fields
from datetime import UTC
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from orchestrator.model.tests import TestId
from orchestrator.model.usage import Sample

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_NAMESPACE = uuid.UUID("6f726368-0000-5000-8000-7265736f7572")
_MAX_PACKED_BYTES = 64 * 1024 * 1024
_SAMPLE_FIELDS = tuple(f.name for f in fields(Sample))
_FIGURES_OF = attrgetter(*_SAMPLE_FIELDS)


def clean(text: str, *, limit: int = 65_536) -> str:
    """Return `text` so that UTF-8 can encode it: lone surrogates and NUL become escapes, and a text over `limit`
    characters loses its middle.
    """
    if len(text) <= limit and text.isascii() and "\0" not in text:
        return text
    if len(text) > limit:
        half = limit // 2 - 20
        text = f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def content_id(kind: str, content: object) -> str:
    """Return a UUID made from content: it is equal on every machine, so the databases of shards merge without
    conflicts.
    """
    text = _SORTED.encode([kind, content])
    digest = bytearray(hashlib.sha1(_NAMESPACE.bytes + text.encode(), usedforsecurity=False).digest()[:16])
    # RFC 9562, version 5: uuid.uuid5 is slower
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    name = digest.hex()
    return f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"


def attempt_id() -> str:
    """Return a new UUID that begins with the time in milliseconds (version 7, RFC 9562, 5.7). New rows are then
    neighbours in every index; random UUIDs would touch a page for each row, a quarter of an insert's time at a
    million rows.
    """
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=number & ~(0b11 << 62) | 0b10 << 62))


def key_of_test(project: str, test_id: TestId) -> str:
    """Return the key of a test, made from its project's id and its name."""
    return content_id("test", [project, test_id.path, test_id.case])


def sqlite_time(moment: datetime) -> str:
    """Return a time as the text that columns of SQLite hold: UTC, to the microsecond, without a zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def pack(content: object) -> bytes:
    """Return a value as JSON, compressed with zlib if it is long enough."""
    data = _COMPACT.encode(content).encode()
    if len(data) > _SHORT_BYTES:
        return zlib.compress(data, level=3)
    # A short series is stored uncompressed in zlib's format: 90 bytes more, but 3 µs instead of 50 to 200 µs, most
    # of which the compressor needs to allocate memory.
    compressor = zlib.compressobj(level=0, wbits=9, memLevel=1)
    return compressor.compress(data) + compressor.flush()


_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_COMPACT = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_SHORT_BYTES = 512


def unpack(data: bytes) -> object:
    """Decode the bytes that `pack` returned. ValueError for anything else, also for data over 64 MiB when
    decompressed.
    """
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(data, _MAX_PACKED_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a packed value: {error}") from error
    if not decompressor.eof:
        raise ValueError("a packed value is cut short or larger than 64 MiB")
    content: object = json.loads(text)
    return content


A = TypeVar("A", "array[int]", "array[float]")


def little_endian(values: A) -> A:
    """Convert numbers between the byte order of this machine and little-endian, in place, and return them."""
    if sys.byteorder == "big":
        values.byteswap()
    return values


def pack_samples(samples: Sequence[Sample]) -> bytes:
    """Encode samples as one JSON list for each figure, `{"at_seconds": [0.0, 0.1], …}`, compressed. Figures that
    were never measured are left out.
    """
    columns = zip(_SAMPLE_FIELDS, zip(*map(_FIGURES_OF, samples), strict=True), strict=bool(samples))
    return pack({name: values for name, values in columns if values.count(None) < len(values)})


def unpack_columns(data: bytes) -> dict[str, list[float | None]]:
    """Return the values of each figure from the bytes that `pack_samples` returned. Figures that were never
    measured are missing.
    """
    columns = unpack(data)
    if not isinstance(columns, dict):
        raise ValueError("packed samples are not an object of lists")  # noqa: TRY004 - bad data, not a bad call
    return columns


def unpack_samples(data: bytes) -> tuple[Sample, ...]:
    """Decode the bytes that `pack_samples` returned. Figures that this version does not know are ignored."""
    columns = unpack_columns(data)
    known = [name for name in _SAMPLE_FIELDS if name in columns]
    points = zip(*(columns[name] for name in known), strict=True)
    return tuple(Sample(**dict(zip(known, point, strict=True))) for point in points)


def pack_plan(planned: Iterable[tuple[TestId, int]]) -> bytes:
    """Encode planned tests as `[[path, case or null, repetition], …]`, compressed."""
    return pack([[test.path, test.case, repetition] for test, repetition in planned])


def unpack_plan(data: bytes | None) -> tuple[tuple[TestId, int], ...]:
    """Decode the bytes that `pack_plan` returned; return an empty plan for None."""
    if data is None:
        return ()
    plan = unpack(data)
    if not isinstance(plan, list):
        raise ValueError("a packed plan is not a list")  # noqa: TRY004 - bad data, not a bad call
    return tuple((TestId(path=path, case=case), repetition) for path, case, repetition in plan)
