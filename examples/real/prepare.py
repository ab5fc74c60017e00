"""Makes a folder with a real project's sources, tests included, ready for `orch run`.

    python examples/real/prepare.py NAME FOLDER

NAME is a folder beside this file. Everything comes from the package index through pip, pinned by version and
SHA-256: the source distribution (requirements.txt), what its build backend needs (build.txt), and what its
tests need (deps.txt), which goes into FOLDER/.image for the container and for a plain run beside it:

    cd FOLDER && PYTHONPATH=.image/deps python -m pytest

A FOLDER that is up to date is left as it is. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

RECIPES = Path(__file__).resolve().parent
STAMP = ".prepared"
KEPT = ".orch"
"""The runs of an earlier preparation survive a new one."""
MAX_FILES = 10_000
MAX_BYTES = 200 << 20


class PrepareError(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def main(argv: list[str]) -> int:
    """Prepare argv[0] in the folder argv[1]; 0, or 1 with a message."""
    try:
        if len(argv) != 2:
            raise PrepareError("two words are needed", f"prepare.py NAME FOLDER; NAME: {', '.join(names())}")
        print(prepare(argv[0], Path(argv[1])))
    except PrepareError as error:
        print(f"prepare: {error}\n         {error.remedy}", file=sys.stderr)
        return 1
    return 0


def names() -> list[str]:
    """The projects there are recipes for."""
    return sorted(place.parent.name for place in RECIPES.glob("*/requirements.txt"))


def prepare(name: str, folder: Path) -> str:
    """Make or renew `folder`; one line about what was done. PrepareError."""
    if name not in names():
        raise PrepareError(f"no project is called {name!r}", f"there are {', '.join(names())}")
    recipe = RECIPES / name
    wanted = f"{name} {digest_of(recipe)}\n"
    folder = Path(os.path.abspath(folder))
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return f"{folder} is up to date"
    if folder.exists() and not stamp.is_file() and not is_free(folder):
        raise PrepareError(
            f"{folder} holds something else", "name a folder that is new, empty, or prepared before"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".prepare-", dir=folder.parent) as place:
            fresh = assemble(recipe, Path(place))
            (fresh / STAMP).write_text(wanted, encoding="utf-8")
            replace(folder, fresh, Path(place))
    except OSError as error:
        raise PrepareError(
            f"cannot write {error.filename or folder}: {error.strerror}", "make room, or name another folder"
        ) from error
    return f"{folder} holds {first_requirement(recipe)}"


def digest_of(recipe: Path) -> str:
    """Changes with any file of the recipe, and with this program."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(recipe.iterdir()):
        if file.is_file():
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def is_free(folder: Path) -> bool:
    """True for an empty folder, or one that holds nothing but results of earlier runs."""
    return folder.is_dir() and all(entry.name == KEPT for entry in folder.iterdir())


def first_requirement(recipe: Path) -> str:
    """`name==version` of the project."""
    lines = (recipe / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))


def assemble(recipe: Path, place: Path) -> Path:
    """A folder inside `place` with the sources, profiles.yaml and the image's context."""
    backend, downloads, fresh = place / "backend", place / "downloads", place / "fresh"
    install(recipe / "build.txt", backend)
    # --no-build-isolation: what pip would install for the backend by itself is pinned by nobody
    source_only = ["--no-deps", "--require-hashes", "--no-binary=:all:", "--no-build-isolation"]
    words = ["download", *source_only, "--dest", str(downloads), "-r", str(recipe / "requirements.txt")]
    pip(words, PYTHONPATH=str(backend))
    archives = list(downloads.glob("*.tar.gz"))
    if len(archives) != 1:
        raise PrepareError(f"{first_requirement(recipe)} came as {archives}", "pin a version that has a .tar.gz")
    unpack(archives[0], fresh)
    image = fresh / ".image"
    install(recipe / "deps.txt", image / "deps")
    forget_this_machine(image / "deps")
    shutil.copyfile(recipe / "Dockerfile", image / "Dockerfile")
    # a plain run leaves byte code there, which would make another image of the same sources
    (image / ".dockerignore").write_text("**/__pycache__\n", encoding="utf-8")
    shutil.copyfile(recipe / "profiles.yaml", fresh / "profiles.yaml")
    let_everyone_read(fresh)
    return fresh


def install(requirements: Path, target: Path) -> None:
    """Wheels only: nothing is built and none of their code runs. No byte code: an image's content is its name."""
    wheels_only = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile"]
    pip(["install", *wheels_only, "--target", str(target), "-r", str(requirements)])


def forget_this_machine(deps: Path) -> None:
    """Programs name this Python's path, and lists of files the programs' sums: without them, the same packages
    make the same image everywhere.
    """
    shutil.rmtree(deps / "bin", ignore_errors=True)
    for record in deps.glob("*.dist-info/RECORD"):
        record.unlink()


def pip(words: list[str], **variables: str) -> None:
    """Run this Python's pip with the user's own configuration (index, mirror, proxy). PrepareError."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-6:]
        raise PrepareError(
            "\n         ".join([f"pip {words[0]} failed with exit code {done.returncode}:", *said]),
            "check that pip reaches a package index (pip config list, PIP_INDEX_URL), then try again",
        )


def unpack(archive: Path, target: Path) -> None:
    """The archive's one folder becomes `target`. Refuses what could write or point outside of it."""
    try:
        with tarfile.open(archive) as opened:
            members = opened.getmembers()
            if len(members) > MAX_FILES or sum(member.size for member in members) > MAX_BYTES:
                raise PrepareError(f"{archive.name} is too large", "pin another version")
            for member in members:
                if member.isdir():
                    continue
                path = target / inner_path(archive, member)
                path.parent.mkdir(parents=True, exist_ok=True)
                source = opened.extractfile(member)
                assert source is not None, "inner_path lets only regular files pass"
                with source, path.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except tarfile.TarError as error:
        raise PrepareError(
            f"{archive.name} cannot be read: {error}", "try again, or pin another version"
        ) from error


def inner_path(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    """The member's path below the archive's one folder."""
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise PrepareError(f"{archive.name} holds {member.name!r}, which is no plain file", "pin another version")
    return path.relative_to(path.parts[0])


def let_everyone_read(folder: Path) -> None:
    """In the container another user reads the files, whatever this user's umask is."""
    for place, _, files in os.walk(folder):
        Path(place).chmod(0o755)
        for name in files:
            Path(place, name).chmod(0o644)


def replace(folder: Path, fresh: Path, place: Path) -> None:
    """Put `fresh` where `folder` is; what runs left in it moves along."""
    if (folder / KEPT).exists():
        (folder / KEPT).rename(fresh / KEPT)
    if folder.exists():
        folder.rename(place / "old")
    fresh.rename(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
