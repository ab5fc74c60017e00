"""The images of a run, pinned by ID; one that somebody removed meanwhile is had again, once, by its content.

A container of ours that holds each image would keep it from `docker system prune -a` (only a running one does),
and costs each run 100 ms of two CPUs an image. Building again costs those runs whose images were removed what the
first build did, and nothing to the others (docs/design/images.md).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class PinnedImages:
    """Any thread may call any method."""

    def __init__(
        self,
        ids: Mapping[str, str],
        *,
        rebuild: Callable[[str], str] | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Pin the images `ids` (name -> ID).

        `rebuild(name)` builds or pulls a removed image again and returns its new ID; without it, a removed image
        is an error. `notify` is called with one line for each image that was restored.
        """
        self._ids = dict(ids)
        self._rebuild = rebuild
        self._notify = notify
        self._lock = threading.Lock()
        self._lost: dict[str, ImageError] = {}
        self._first = {image_id: image_id for image_id in ids.values()}

    def __getitem__(self, name: str) -> str:
        """The present ID."""
        return self._ids[name]

    def pinned(self, image_id: str) -> str:
        """The ID that the run began with of an image that has this one now."""
        return self._first.get(image_id, image_id)

    def restore(self, name: str, image_id: str) -> None:
        """The engine does not know this ID any more: have the image again, unless another thread just did.
        ImageError: that cannot be; then it is not tried again in this run.
        """
        with self._lock:
            if self._ids[name] != image_id:
                return
            if name in self._lost:
                raise self._lost[name]
            began = time.monotonic()
            try:
                if self._rebuild is None:
                    raise ImageError("it is not had again here")
                found = self._rebuild(name)
            except EngineError as error:
                lost = ImageError(
                    f"image {name} ({image_id[:19]}) was removed externally, and cannot be restored:"
                    f" {error.message}",
                    remedy=error.remedy or "make it available to the engine, and run again",
                )
                self._lost[name] = lost
                raise lost from error
            self._first[found] = self._first[image_id]
            self._ids[name] = found
        self._notify(
            f"image {name} ({image_id[:19]}) was removed externally (docker system prune?):"
            f" had again in {time.monotonic() - began:.1f} s as {found[:19]}"
        )


def is_missing(error: EngineError) -> bool:
    """A create call failed because the engine does not have the image; Docker and Podman say it in these words."""
    text = error.message.lower()
    return "no such image" in text or "image not known" in text
