"""The image operations of the real engine: JSON requests by its API, the rest by the Docker SDK."""

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
"""The longest time between two lines of a build's output: a step that compiles may be silent for long."""
MAX_FILE_BYTES = 64 << 20
"""The largest file that is read out of an image; the largest shells have 2 MB."""


class DockerImages(ABC):
    """The image operations of `DockerEngine`, which inherits from this class."""

    @property
    @abstractmethod
    def _client(self) -> Any:
        """The SDK's client."""

    @abstractmethod
    def _call(self, doing: str, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request to the engine's API by `EngineApi.call`, and return the parsed answer."""

    @staticmethod
    def _translated(doing: str) -> AbstractContextManager[None]:
        """Return a context manager that raises the SDK's errors as those of `orchestrator.errors`."""
        from orchestrator.engine.docker.sdk import translated

        return translated(doing)

    def _image(self, doing: str, reference: str) -> Any:
        return self._call(f"{doing} {reference}", "GET", f"/images/{quote(reference, safe='/:@')}/json")

    def find_image(self, reference: str) -> str | None:
        """Return the ID of a local image, None if there is none."""
        try:
            return str(self._image("looking for image", reference)["Id"])
        except NotFoundError:
            return None

    def image_bytes(self, image_id: str) -> int:
        """Return the image's size on disk in bytes."""
        return int(self._image("inspecting image", image_id)["Size"])

    def image_labels(self, image_id: str) -> Mapping[str, str]:
        """Return the image's labels."""
        return (self._image("inspecting image", image_id).get("Config") or {}).get("Labels") or {}

    def image_env(self, image_id: str) -> tuple[str, ...]:
        """Return the environment variables of the image's containers, as `NAME=value`."""
        return tuple((self._image("inspecting image", image_id).get("Config") or {}).get("Env") or ())

    def image_volumes(self, image_id: str) -> frozenset[str]:
        """Return the folders that the image declares as volumes."""
        return frozenset((self._image("inspecting image", image_id).get("Config") or {}).get("Volumes") or ())

    def pull(self, reference: str, timeout_seconds: float) -> str:
        """Pull an image and return its ID. Raises ImageError."""
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
        """Build an image from a tar stream with the classic builder, which every engine has; return its ID.

        Raises ImageError, which names the failing step.
        """
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
        """Make an image from the tar stream of a root file system and return its ID. Raises ImageError."""
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
        """Return the contents of regular files of an image by path; links are followed, missing files left out."""
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
                if status.get("linkTarget"):  # the engine has followed the whole chain of links
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
        """Make an image from another one and the members of a tar archive, and return its ID.

        A build would carry out the ONBUILD instructions of the image, so a container is committed instead.
        """
        name, tag = name_and_tag(reference)
        # the labels of the committed container must not be inherited by containers of the new image
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
        """Create a container of the image that is never started, and remove it afterwards."""
        name = f"orch-image-{secrets.token_hex(6)}"
        body = {
            "Image": image_id,
            "Labels": _labels_of_stopped(name),
            "HostConfig": {"NetworkMode": "none"},
        }
        config = self._image("inspecting image", image_id).get("Config") or {}
        if not config.get("Cmd") and not config.get("Entrypoint"):
            body["Cmd"] = ["-"]  # the engine requires a command, also for a container that is not started
        doing = f"creating container {name}"
        try:
            yield str(self._call(doing, "POST", f"/containers/create?name={name}", body=body)["Id"])
        finally:
            with suppress(NotFoundError):
                self._call(f"removing {name}", "DELETE", f"/containers/{name}?v=1&force=1")

    def tag(self, image_id: str, reference: str) -> None:
        """Add a name to an image."""
        name, tag = name_and_tag(reference)
        path = f"/images/{quote(image_id, safe='/:@')}/tag?{urlencode({'repo': name, 'tag': tag})}"
        self._call(f"tagging {reference}", "POST", path)

    def remove_image(self, reference: str) -> None:
        """Remove a name of an image, and the image with its last name; do nothing if it does not exist."""
        with suppress(NotFoundError):
            self._call(f"removing image {reference}", "DELETE", f"/images/{quote(reference, safe='/:@')}")


def _labels_of_stopped(name: str) -> dict[str, str]:
    """Return labels by which `orch clean` finds a container of `_stopped` whose orch process was killed."""
    owner = own_labels.Owner(run_id=str(uuid.uuid4()), token=owner_token(), work_dir="")
    return own_labels.helper_labels(owner, name)
