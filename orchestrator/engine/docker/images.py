"""The image calls of the real engine, through the Docker SDK."""

from __future__ import annotations

import io
import secrets
import tarfile
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from orchestrator.engine import labels as own_labels
from orchestrator.engine.docker.messages import name_and_tag
from orchestrator.errors import EngineError, ImageError, NotFoundError
from orchestrator.measure.processes import owner_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import BinaryIO

BUILD_SILENCE_SECONDS = 1800
"""Longest time between two lines of a build: a step that compiles may say nothing for long."""
MAX_FILE_BYTES = 64 << 20
"""Of a file that is read out of an image: the largest shells have 2 MB."""


class DockerImages(ABC):
    """The half of a real engine that deals with images; `docker.DockerEngine` is the whole."""

    @property
    @abstractmethod
    def _client(self) -> Any:
        """The SDK's client, which has no types of its own."""

    @abstractmethod
    def _call(self, doing: str, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> Any:
        """A call of the engine's own API: JSON, and errors as ours."""

    @staticmethod
    def _translated(doing: str) -> AbstractContextManager[None]:
        """Around calls of the SDK: its errors become ours."""
        from orchestrator.engine.docker.sdk import translated

        return translated(doing)

    def _image(self, doing: str, reference: str) -> Any:
        return self._call(f"{doing} {reference}", "GET", f"/images/{quote(reference, safe='/:@')}/json")

    def find_image(self, reference: str) -> str | None:
        """ID of a local image, or None."""
        try:
            return str(self._image("looking for image", reference)["Id"])
        except NotFoundError:
            return None

    def image_bytes(self, image_id: str) -> int:
        """Size on disk."""
        return int(self._image("inspecting image", image_id)["Size"])

    def image_labels(self, image_id: str) -> Mapping[str, str]:
        """Its labels."""
        return (self._image("inspecting image", image_id).get("Config") or {}).get("Labels") or {}

    def image_env(self, image_id: str) -> tuple[str, ...]:
        """Variables that its containers have, as `NAME=value`."""
        return tuple((self._image("inspecting image", image_id).get("Config") or {}).get("Env") or ())

    def image_volumes(self, image_id: str) -> frozenset[str]:
        """Folders that it declares as volumes."""
        return frozenset((self._image("inspecting image", image_id).get("Config") or {}).get("Volumes") or ())

    def pull(self, reference: str, timeout_seconds: float) -> str:
        """Pull; the ID."""
        deadline = time.monotonic() + timeout_seconds
        try:
            with self._translated(f"pulling {reference}"):
                name, tag = name_and_tag(reference)
                for event in self._client.pull(name, tag=tag, stream=True, decode=True):
                    if "error" in event:
                        raise ImageError(f"pulling {reference}: {event['error']}")
                    if time.monotonic() > deadline:
                        raise ImageError(f"pulling {reference}: not done in {timeout_seconds:.0f} s")
        except ImageError:
            raise
        except EngineError as error:
            raise ImageError(error.message) from error
        found = self.find_image(reference)
        if found is None:
            raise ImageError(f"pulling {reference}: the engine said nothing, and does not have it")
        return found

    def build(
        self,
        *,
        context: BinaryIO,
        dockerfile: str,
        tags: tuple[str, ...],
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        network: str | None,
        on_line: Callable[[str], None],
    ) -> str:
        """Build from a tar stream; the ID. The classic builder: every engine has it, with or without buildx."""
        image_id, step = None, ""
        lines: list[str] = []
        with self._translated("building an image"):
            events = self._client.build(
                fileobj=context,
                custom_context=True,
                dockerfile=dockerfile,
                buildargs=dict(build_args),
                labels=dict(labels),
                network_mode=network,
                rm=True,
                forcerm=True,
                timeout=BUILD_SILENCE_SECONDS,
                decode=True,
            )
            for event in events:
                text = str(event.get("stream") or "").rstrip()
                if text:
                    on_line(text)
                    step = text if text.startswith("Step ") else step
                    lines = [*lines[-19:], text]
                if "error" in event:
                    tail = "\n  ".join(lines)
                    raise ImageError(f"building an image failed at {step}: {event['error']}\n  {tail}")
                image_id = (event.get("aux") or {}).get("ID") or image_id
        if image_id is None:
            raise ImageError(f"building an image ended without an ID after {step}")
        for tag in tags:
            self.tag(image_id, tag)
        return str(image_id)

    def import_rootfs(self, archive: BinaryIO, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image of a root file system's tar stream; the ID."""
        name, tag = name_and_tag(reference)
        changes = [f'LABEL "{key}"="{value}"' for key, value in labels.items()]
        with self._translated(f"importing {reference}"):
            # not import_image_from_stream: it declares a chunked body and sends a plain one if the length is known
            self._client.import_image(src=archive, repository=name, tag=tag, changes=changes or None)
        found = self.find_image(reference)
        if found is None:
            raise ImageError(f"importing {reference}: the engine does not have it afterwards")
        return found

    def read_files(self, image_id: str, paths: tuple[str, ...]) -> Mapping[str, bytes]:
        """Contents of regular files of an image, links followed; a path that leads to none is left out."""
        found = {}
        with self._stopped(image_id) as container:
            for path in paths:
                content = self._read_file(container, path)
                if content is not None:
                    found[path] = content
        return found

    def _read_file(self, container: str, path: str) -> bytes | None:
        try:
            with self._translated(f"reading {path} of an image"):
                chunks, status = self._client.get_archive(container, path)
                if status.get("linkTarget"):  # the engine has followed the whole chain for it
                    chunks, status = self._client.get_archive(container, status["linkTarget"])
                if status["size"] > MAX_FILE_BYTES:
                    raise ImageError(f"{path} of an image has {status['size']} bytes")
                held = io.BytesIO(b"".join(chunks))
        except NotFoundError:
            return None
        with tarfile.open(fileobj=held) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None and member.isfile() else None
            return None if file is None else file.read()

    def add_files(self, image_id: str, archive: bytes, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image of another one and the members of a tar archive; the ID. Not by a build: that would carry
        out the image's ONBUILD instructions.
        """
        name, tag = name_and_tag(reference)
        # what marks the container that the image is made of is not to mark those that are made of the image
        labels = {**dict.fromkeys(_labels_of_stopped(""), ""), **labels}
        changes = [f'LABEL "{key}"="{value}"' for key, value in labels.items()]
        doing = f"making image {reference}"
        with self._stopped(image_id) as container:
            with self._translated(doing):
                self._client.put_archive(container, "/", archive)
            words = urlencode({"container": container, "repo": name, "tag": tag, "changes": changes}, doseq=True)
            made = self._call(doing, "POST", f"/commit?{words}", body={})
        return str(self.find_image(str(made["Id"])) or made["Id"])

    @contextmanager
    def _stopped(self, image_id: str) -> Iterator[str]:
        """ID of a container of the image that is never started."""
        name = f"orch-image-{secrets.token_hex(6)}"
        body = {
            "Image": image_id,
            "Labels": _labels_of_stopped(name),
            "HostConfig": {"NetworkMode": "none"},
        }
        config = self._image("inspecting image", image_id).get("Config") or {}
        if not config.get("Cmd") and not config.get("Entrypoint"):
            body["Cmd"] = ["-"]  # the engine wants a command, also for what is not started
        doing = f"creating container {name}"
        try:
            yield str(self._call(doing, "POST", f"/containers/create?name={name}", body=body)["Id"])
        finally:
            with suppress(NotFoundError):
                self._call(f"removing {name}", "DELETE", f"/containers/{name}?v=1&force=1")

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image a further name."""
        name, tag = name_and_tag(reference)
        path = f"/images/{quote(image_id, safe='/:@')}/tag?{urlencode({'repo': name, 'tag': tag})}"
        self._call(f"tagging {reference}", "POST", path)

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last one."""
        with suppress(NotFoundError):
            self._call(f"removing image {reference}", "DELETE", f"/images/{quote(reference, safe='/:@')}")


def _labels_of_stopped(name: str) -> dict[str, str]:
    """Labels by which a container of `_stopped` is found when the orch that made it has been killed."""
    owner = own_labels.Owner(run_id=str(uuid.uuid4()), token=owner_token(), work_dir="")
    return own_labels.helper_labels(owner, name)
