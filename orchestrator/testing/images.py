"""The images of the in-memory engine, with a build that carries out a Dockerfile's FROM and LABEL lines."""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.engine.docker.messages import name_and_tag
from orchestrator.errors import ConflictError, ImageError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO


@dataclass(slots=True)
class _Image:
    size: int
    labels: dict[str, str]
    names: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)


def _full(reference: str) -> str:
    return ":".join(name_and_tag(reference))


class FakeImages:
    """An in-memory implementation of `ImageEngine`."""

    def __init__(self) -> None:
        self._images: dict[str, _Image] = {}
        self._image_lock = threading.RLock()
        self.registry: set[str] = set()
        """The references that `pull` finds."""

    def _id_of(self, reference: str) -> str:
        with self._image_lock:
            digest = reference.removeprefix("sha256:")
            for image_id, image in self._images.items():
                short = len(digest) >= 12 and image_id.removeprefix("sha256:").startswith(digest)
                if short or (not reference.startswith("sha256:") and _full(reference) in image.names):
                    return image_id
        raise NotFoundError(f"no such image: {reference}")

    def _put(self, content: bytes, labels: Mapping[str, str]) -> str:
        text = repr(sorted(labels.items())).encode()
        image_id = f"sha256:{hashlib.sha256(content + text).hexdigest()}"
        with self._image_lock:
            self._images.setdefault(image_id, _Image(len(content), dict(labels)))
        return image_id

    def find_image(self, reference: str) -> str | None:
        """Return the ID of a local image, None if there is none."""
        try:
            return self._id_of(reference)
        except NotFoundError:
            return None

    def image_bytes(self, image_id: str) -> int:
        """Return the size of the content that the image was made from."""
        return self._images[self._id_of(image_id)].size

    def image_labels(self, image_id: str) -> Mapping[str, str]:
        """Return the image's labels."""
        return dict(self._images[self._id_of(image_id)].labels)

    def image_env(self, image_id: str) -> tuple[str, ...]:
        """Return nothing: these images set no variables."""
        self._id_of(image_id)
        return ()

    def image_volumes(self, image_id: str) -> frozenset[str]:
        """Return nothing: these images declare no volumes."""
        self._id_of(image_id)
        return frozenset()

    def pull(self, reference: str, timeout_seconds: float) -> str:  # noqa: ARG002 - the Protocol has it
        """Return the ID of an image of `registry`. Raises ImageError if it is not there."""
        if reference not in self.registry:
            raise ImageError(f"pulling {reference}: no registry has it")
        image_id = self._put(reference.encode(), {})
        self.tag(image_id, reference)
        return image_id

    def build(
        self,
        *,
        context: BinaryIO,
        dockerfile: str,
        tags: tuple[str, ...],
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        network: str | None,  # noqa: ARG002 - the Protocol has it
        on_line: Callable[[str], None],
    ) -> str:
        """Carry out FROM and LABEL, fail at `RUN false` and `RUN exit N`, and ignore other lines."""
        content = _file_of(context, dockerfile)
        found: dict[str, str] = {}
        steps = [line for line in content.decode().splitlines() if line.strip() and not line.startswith("#")]
        arguments = dict(build_args)
        for number, line in enumerate(steps, 1):
            step = f"Step {number}/{len(steps)} : {line}"
            on_line(step)
            word, _, rest = line.partition(" ")
            for name, value in arguments.items():
                rest = rest.replace(f"${{{name}}}", value)
            match word.upper():
                case "ARG":
                    name, _, value = rest.partition("=")
                    arguments.setdefault(name, value)
                case "FROM":
                    base = self.find_image(rest.split()[0])
                    if base is None:
                        raise ImageError(f"building an image failed at {step}: no such image: {rest}")
                    found |= self.image_labels(base)
                case "LABEL":
                    found |= dict(pair.partition("=")[::2] for pair in shlex.split(rest))
                case "RUN" if rest == "false" or (rest.startswith("exit ") and rest != "exit 0"):
                    raise ImageError(f"building an image failed at {step}: returned a non-zero code")
        image_id = self._put(content + repr(sorted(arguments.items())).encode(), {**found, **labels})
        for name in tags:
            self.tag(image_id, name)
        return image_id

    def import_rootfs(self, archive: BinaryIO, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image from the bytes of the stream and return its ID."""
        image_id = self._put(archive.read(), labels)
        self.tag(image_id, reference)
        return image_id

    def read_files(self, image_id: str, paths: tuple[str, ...]) -> Mapping[str, bytes]:
        """Return the contents of files that `add_files` has added."""
        files = self._images[self._id_of(image_id)].files
        return {path: files[path] for path in paths if path in files}

    def add_files(self, image_id: str, archive: bytes, reference: str, labels: Mapping[str, str]) -> str:
        """Make an image with the labels and files of both and return its ID."""
        base = self._images[self._id_of(image_id)]
        made = self._put(image_id.encode() + archive, {**base.labels, **labels})
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            files = {f"/{m.name}": opened.extractfile(m) for m in opened if m.isfile()}
            self._images[made].files = base.files | {n: f.read() for n, f in files.items() if f is not None}
        self.tag(made, reference)
        return made

    def tag(self, image_id: str, reference: str) -> None:
        """Add a name to an image, and remove it from the image that had it."""
        with self._image_lock:
            target = self._images[self._id_of(image_id)]
            for image in self._images.values():
                image.names.discard(_full(reference))
            target.names.add(_full(reference))

    def remove_image(self, reference: str) -> None:
        """Remove a name, and the image with its last name. Raises ConflictError for an ID with several names."""
        with self._image_lock:
            try:
                image_id = self._id_of(reference)
            except NotFoundError:
                return
            image = self._images[image_id]
            if _full(reference) in image.names:
                image.names.discard(_full(reference))
            elif len(image.names) > 1:
                raise ConflictError(f"removing image {reference}: it has several names")
            else:
                image.names.clear()
            if not image.names:
                del self._images[image_id]


def _file_of(context: BinaryIO, name: str) -> bytes:
    with tarfile.open(fileobj=context, mode="r|*") as archive:
        for member in archive:
            if member.name.removeprefix("./") == name and member.isfile():
                source = archive.extractfile(member)
                if source is not None:
                    return source.read()
    raise ImageError(f"building an image failed: no file {name} in the context")
