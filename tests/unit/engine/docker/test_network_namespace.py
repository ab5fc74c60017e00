from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker.network_namespace import has_own_network

if TYPE_CHECKING:
    from pathlib import Path

HEADINGS = "Inter-|   Receive      |  Transmit\n face |bytes    packets|bytes    packets\n"
ID = "0123abcd" * 8


@pytest.mark.parametrize(
    ("here", "inside", "answer"),
    [
        (("lo", "eth0"), ("lo",), True),
        (("lo", "eth0", "sit0"), ("lo", "sit0"), True),
        (("lo", "eth0"), ("lo", "eth0"), False),
        (("lo", "eth0"), ("lo", "eth0", "wlan0"), False),
        (("lo",), ("lo",), None),
    ],
)
def test_its_interfaces_beside_this_machines(
    tmp_path: Path, here: tuple[str, ...], inside: tuple[str, ...], answer: bool | None
) -> None:
    for pid, names in (("self", here), ("77", inside)):
        (tmp_path / pid / "net").mkdir(parents=True)
        text = HEADINGS + "".join(f"{name:>6}: 0 0\n" for name in names)
        (tmp_path / pid / "net" / "dev").write_text(text)
    (tmp_path / "77" / "cgroup").write_text(f"4:memory:/docker/{ID}\n0::/\n")
    assert has_own_network(ID, 77, tmp_path) is answer
    assert has_own_network("f" * 64, 77, tmp_path) is None  # that number is another process here
    assert has_own_network(ID, 78, tmp_path) is None
