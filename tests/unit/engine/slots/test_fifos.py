from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from orchestrator.engine.slots.fifos import FifoChannel
from orchestrator.errors import EngineError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "slot-1"


def test_nothing_ends_before_a_container_was_there(place: Path) -> None:
    channel = FifoChannel(place)
    assert channel.read(0.02) is None
    assert channel.read(0.0) is None
    channel.close()


def test_both_streams_and_their_ends(place: Path) -> None:
    channel = FifoChannel(place)
    out, err = os.open(place / "out", os.O_WRONLY), os.open(place / "err", os.O_WRONLY)
    os.write(out, b"one")
    assert channel.read(1) == ("stdout", b"one")
    os.write(err, b"two")
    os.close(out)
    pieces = [channel.read(1), channel.read(1)]
    assert sorted(piece for piece in pieces if piece) == [("stderr", b"two"), ("stdout", b"")]
    os.close(err)
    assert channel.read(1) == ("stderr", b"")
    assert channel.read(1) is None
    channel.close()
    channel.close()
    assert not place.exists()


def test_a_flood_on_one_stream_does_not_starve_the_other(place: Path) -> None:
    channel = FifoChannel(place)
    out, err = os.open(place / "out", os.O_RDWR), os.open(place / "err", os.O_RDWR)
    os.write(err, b"here")
    seen = []
    for _ in range(4):
        os.write(out, b"x" * 1000)
        piece = channel.read(1)
        assert piece is not None
        seen.append(piece[0])
    assert "stderr" in seen
    os.close(out)
    os.close(err)
    channel.close()


def test_a_long_message_is_written_as_it_is_read(place: Path) -> None:
    channel = FifoChannel(place)
    message = os.urandom(300_000)
    seen = bytearray()

    def read() -> None:
        with (place / "in").open("rb", buffering=0) as source:
            while len(seen) < len(message):
                seen.extend(source.read(5000) or b"")

    reader = threading.Thread(target=read)
    reader.start()
    channel.write(message)
    reader.join(10)
    assert bytes(seen) == message
    channel.close()


def test_an_agent_that_does_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.engine.slots.fifos.WRITE_SECONDS", 0.05)
    channel = FifoChannel(place)
    with pytest.raises(EngineError, match="does not read"):
        channel.write(bytes(300_000))
    channel.close()


def test_a_buffer_whose_size_was_changed_is_seen(place: Path) -> None:
    channel = FifoChannel(place)
    assert not channel.resized
    out = os.open(place / "out", os.O_WRONLY)
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
    assert channel.resized
    os.close(out)
    channel.close()


def test_modes_let_the_containers_user_in(place: Path) -> None:
    channel = FifoChannel(place)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in place.iterdir()}
    assert modes == {**dict.fromkeys(("in", "out", "err"), "0o666"), **dict.fromkeys(("a", "b"), "0o644")}
    channel.unlink()
    assert {path.name for path in place.iterdir()} == {"a", "b"}
    assert place.stat().st_mode & 0o777 == 0o755
    channel.close()


def test_a_folder_that_is_there_already_stays(place: Path) -> None:
    place.mkdir()
    (place / "file").write_text("somebody's")
    with pytest.raises(EngineError, match="slot-1"):
        FifoChannel(place)
    assert (place / "file").exists()


def test_no_descriptor_is_left(place: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    FifoChannel(place).close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
