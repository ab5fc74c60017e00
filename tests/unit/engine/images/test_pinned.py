"""An image that was removed during a run is restored once; CASES D3."""

from __future__ import annotations

import pytest

from orchestrator.engine.images.pinned import PinnedImages, is_missing
from orchestrator.errors import ImageError, NotFoundError


def test_it_is_had_again_once_however_many_miss_it() -> None:
    asked: list[str] = []
    said: list[str] = []

    def again(name: str) -> str:
        asked.append(name)
        return f"sha256:new-{len(asked)}"

    images = PinnedImages({"full": "sha256:old"}, rebuild=again, notify=said.append)
    images.restore("full", "sha256:old")
    images.restore("full", "sha256:old")
    assert (images["full"], asked) == ("sha256:new-1", ["full"])
    assert images.pinned("sha256:new-1") == "sha256:old"  # what was measured of the one holds for the other
    images.restore("full", "sha256:new-1")
    assert images.pinned("sha256:new-2") == "sha256:old"
    assert len(said) == 2
    assert "image full (sha256:old) was removed externally" in said[0]


def test_one_that_cannot_be_had_is_tried_once_and_named() -> None:
    asked: list[str] = []

    def again(name: str) -> str:
        asked.append(name)
        raise ImageError("no registry answers", remedy="pull it")

    images = PinnedImages({"full": "sha256:old"}, rebuild=again)
    for _ in range(3):
        with pytest.raises(
            ImageError,
            match=r"image full .sha256:old. was removed externally, and cannot be restored: no registry",
        ) as caught:
            images.restore("full", "sha256:old")
        assert caught.value.remedy == "pull it"
    assert asked == ["full"]


def test_an_engines_words_for_a_missing_image() -> None:
    assert is_missing(NotFoundError("creating container x: No such image: sha256:1"))
    assert not is_missing(NotFoundError("creating container x: No such container: y"))
