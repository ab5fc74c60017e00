"""Builds or pulls the images that a run needs and the engine does not have, and returns their IDs.

A built image is named by its content: a digest over its build context, its arguments and its base image's ID. The
same content has the same name, so nothing is built twice, and parallel runs cannot replace each other's image.

    orch/test-<name>:<digest>         this content on this base: the name that a run looks for
    orch/test-<name>:recipe-<recipe>  this content on the base that it was last built on: used if the base neither
                                      exists nor can be pulled, so that a later run needs no registry
    orch/test-<name>:latest           the image that was built last, for users
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.engine.images import offline_base as offline
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.images.build_context import (
    ContextReport,
    context_digest,
    context_report,
    default_base,
    digest_of,
    open_context,
)
from orchestrator.engine.locks import named_lock
from orchestrator.errors import ConfigError, EngineError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import BinaryIO

    from orchestrator.engine.base import ImageEngine
    from orchestrator.model.profiles import ImageSpec

__all__ = ["ContextReport", "context_report", "ensure_images", "repository"]

IMAGE_LABEL = "io.orch.image"
DIGEST_LABEL = "io.orch.digest"
RECIPE_LABEL = "io.orch.recipe"
STAGE_LABEL = "io.orch.stage"
"""The label of intermediate stages in orch's own Dockerfiles."""
PULL_SECONDS = 600.0
PULL_SECONDS_BEFORE_OFFLINE = 60.0
"""The timeout of a pull if the image can be built on an offline base instead."""
_FORMAT = "1"
"""A part of every digest; another number makes orch build all images again."""
_STEP = re.compile(r"^Step \d+/\d+ : (\w+)")
_LAYER = re.compile(r"^ ?---> ([0-9a-f]{12,64})$")


def repository(name: str) -> str:
    """Return the repository name of the image that is built for a spec of this name."""
    return f"orch/test-{name.lower()}"


def ensure_images(
    engine: ImageEngine, specs: Iterable[ImageSpec], *, offline_base: bool, on_line: Callable[[str], None]
) -> Mapping[str, str]:
    """Return the ID (`sha256:…`) by name, for each spec and each image that one of them is based on.

    The ID is that of the image prepared with the agent's shell (`agent_shell`), from which containers are created.
    Missing images are built or pulled, once even if several processes need them. With `offline_base`, an image
    whose default base cannot be pulled is built on a Debian base made from this machine's own package mirror.
    `on_line` is called with each line of the builds' output. Raises ImageError with the remedy, and ConfigError
    for bases that form a circle.
    """
    work = _Work(engine=engine, specs={s.name: s for s in specs}, offline_base=offline_base, on_line=on_line)
    for name in work.specs:
        work.ensure(name)
    return {name: prepared_image(engine, image_id, on_line) for name, image_id in work.done.items()}


@dataclass(slots=True, kw_only=True)
class _Base:
    """The base of an image. Without an ID, the Dockerfile names the base itself and the engine pulls it."""

    id: str | None = None
    offline: bool = False


@dataclass(slots=True, kw_only=True)
class _Work:
    """The state of one call of `ensure_images`."""

    engine: ImageEngine
    specs: Mapping[str, ImageSpec]
    offline_base: bool
    on_line: Callable[[str], None]
    done: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)

    def ensure(self, name: str) -> str:
        """Return the image's ID; build or pull its base and the image if they are missing."""
        if name in self.done:
            return self.done[name]
        if name in self.pending:
            raise ConfigError(f"images build on each other in a circle: {' -> '.join([*self.pending, name])}")
        spec = self.specs.get(name)
        if spec is None:
            raise ConfigError(f"image {self.pending[-1]} is based on {name}, which is not configured")
        self.pending.append(name)
        if spec.dockerfile is not None:
            image_id = self._built(spec)
        elif spec.reference is not None:
            image_id = self._found_or_pulled(spec.reference, PULL_SECONDS)
        else:
            raise ConfigError(f"image {name} has neither a dockerfile nor a reference")
        self.pending.pop()
        self.done[name] = image_id
        return image_id

    def _found_or_pulled(self, reference: str, seconds: float) -> str:
        found = self.engine.find_image(reference)
        if found is not None:
            return found
        with named_lock(
            f"pull-{reference}", lambda: self.on_line(f"another orch is pulling {reference}: waiting")
        ):
            found = self.engine.find_image(reference)
            if found is None:
                self.on_line(f"pulling {reference}")
                found = self.engine.pull(reference, seconds)
        return found

    def _built(self, spec: ImageSpec) -> str:
        content, dockerfile = context_digest(spec)
        recipe = _digest(content, dockerfile, _settings(spec))
        tag = f"{repository(spec.name)}:recipe-{recipe}"
        with named_lock(tag, lambda: self.on_line(f"another orch is building image {spec.name}: waiting")):
            base = self._base(spec, tag)
            if isinstance(base, str):
                return base
            digest = _digest(recipe, base.id or "")
            found = self.engine.find_image(f"{repository(spec.name)}:{digest}")
            if found is not None:
                return found
            context, _ = open_context(spec)
            with context:
                if digest_of(context) != content:
                    raise ImageError(
                        f"image {spec.name}: files of its build context were changed while it was looked at",
                        remedy="run it again",
                    )
                return self._build(spec, context, dockerfile, base, (recipe, digest))

    def _base(self, spec: ImageSpec, recipe_tag: str) -> _Base | str:
        """Return the base to build on, or the ID of an earlier image of this recipe if there is no base."""
        if spec.base is not None:
            base_id = self.ensure(spec.base)
            return _Base(id=base_id, offline=offline.LABEL in self.engine.image_labels(base_id))
        reference = spec.build_args.get("BASE_IMAGE") or default_base(spec)
        if reference is None:
            return _Base()
        found = self.engine.find_image(reference)
        if found is not None:
            return _Base(id=found, offline=offline.LABEL in self.engine.image_labels(found))
        earlier = self.engine.find_image(recipe_tag)
        if earlier is not None:
            return earlier
        return self._pulled_or_offline(spec, reference)

    def _pulled_or_offline(self, spec: ImageSpec, reference: str) -> _Base:
        try:
            seconds = PULL_SECONDS_BEFORE_OFFLINE if self.offline_base else PULL_SECONDS
            return _Base(id=self._found_or_pulled(reference, seconds))
        except EngineError as error:
            if not self.offline_base:
                raise ImageError(
                    f"image {spec.name}: its base {reference} is not here, and {error.message}",
                    remedy="orch build --offline-base builds it on a Debian base made from this machine's "
                    "own package mirror; or name an image the engine has in the build argument BASE_IMAGE",
                ) from error
            self.on_line(f"no registry answers for {reference}: building {spec.name} on a Debian base instead")
            return _Base(id=offline.ensure_offline_base(self.engine, self.on_line), offline=True)

    def _build(
        self, spec: ImageSpec, context: BinaryIO, dockerfile: str, base: _Base, digests: tuple[str, str]
    ) -> str:
        """Build the image and return its ID. `digests` are those of the recipe, and of the recipe on this base."""
        recipe, digest = digests
        name = repository(spec.name)
        stages = _Stages(self.on_line)
        labels = {IMAGE_LABEL: spec.name, DIGEST_LABEL: digest, RECIPE_LABEL: recipe}
        if base.offline:
            labels[offline.LABEL] = "inherited"  # not inherited by an image that copies its base from a stage
        context.seek(0)
        image_id = self.engine.build(
            context=context,
            dockerfile=dockerfile,
            tags=(f"{name}:{digest}", f"{name}:recipe-{recipe}", f"{name}:latest"),
            build_args={**spec.build_args, **({"BASE_IMAGE": base.id} if base.id else {})},
            labels=labels,
            # the machine's own mirror may have a name that only the machine itself can resolve
            network="host" if base.offline else None,
            on_line=stages.line,
        )
        self._forget(stages.ids)
        return image_id

    def _forget(self, stages: Iterable[str]) -> None:
        """Remove the unnamed images of intermediate stages of orch's own Dockerfiles, hundreds of megabytes.

        Stages of other Dockerfiles are kept, because they serve as their build cache.
        """
        for stage in stages:
            try:
                if STAGE_LABEL in self.engine.image_labels(stage):
                    self.engine.remove_image(stage)
            except EngineError:
                continue  # it no longer exists, or another image is built on it


class _Stages:
    """Passes a build's output on, and collects the ID of the last layer of each stage except the final one."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.ids: list[str] = []
        self._on_line = on_line
        self._layer: str | None = None
        self._in_from = False

    def line(self, text: str) -> None:
        """Process a line of the builder's output."""
        self._on_line(text)
        for part in text.splitlines():
            step = _STEP.match(part)
            layer = _LAYER.match(part)
            if step is not None:
                self._in_from = step.group(1).upper() == "FROM"
                if self._in_from and self._layer is not None:
                    self.ids.append(self._layer)
                    self._layer = None
            elif layer is not None and not self._in_from:  # the layer after FROM is the base
                self._layer = layer.group(1)


def _settings(spec: ImageSpec) -> str:
    base = spec.base or spec.build_args.get("BASE_IMAGE") or ""
    return json.dumps({"args": dict(spec.build_args), "base": base}, sort_keys=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join((_FORMAT, *parts)).encode()).hexdigest()[:12]
