"""Pins the images of a run by ID, and restores once an image that is removed during the run.

Only a running container protects an image from `docker system prune -a`, which would cost each run 100 ms of two
CPUs per image. Building an image again costs only those runs whose images were removed
(docs/design/engine/images.md).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class PinnedImages:
    """The image IDs of a run by name. Any thread may call any method."""

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
        """Return the current ID of the image `name`."""
        return self._ids[name]

    def pinned(self, image_id: str) -> str:
        """Return the ID that the image had when the run began."""
        return self._first.get(image_id, image_id)

    def restore(self, name: str, image_id: str) -> None:
        """Restore the image `name` whose ID `image_id` the engine no longer knows, unless another thread has.

        Raises ImageError if that is not possible; it is then not tried again in this run.
        """
        with self._lock:
            if self._ids[name] != image_id:
                return
            if name in self._lost:
                raise self._lost[name]
            began = time.monotonic()
            try:
                if self._rebuild is None:
                    raise ImageError("this command does not build images again")
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
            f" restored in {time.monotonic() - began:.1f} s as {found[:19]}"
        )


def is_missing(error: EngineError) -> bool:
    """Return whether a create call failed because the engine does not have the image (Docker or Podman)."""
    text = error.message.lower()
    return "no such image" in text or "image not known" in text
