# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Release archives of a Python application: its source, and its locked dependencies for the hosts' Python."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

# Changes when the same input makes another archive.
FORMAT = 2
ID_LENGTH = 12
# Seconds that pip may take, and that a run waits for another one on the same cache.
PIP_TIMEOUT = 900
LOCK_TIMEOUT = 1000
# Debian 13 has glibc 2.41, and runs what was built for any older one; 2.5 is the first that wheels name.
GLIBC_MINORS = range(41, 4, -1)
OLD_TAGS = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1", "linux"), "aarch64": ("manylinux2014", "linux")}
# Hidden files are tools' own, and often secrets.
EXCLUDE = (".*", "__pycache__", "*.pyc", "tests")
# How a file begins that stands for one in Git LFS.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MAKE_LOCK = "Make the lock with 'uv pip compile --generate-hashes' or 'pip-compile --generate-hashes'."


class ReleaseError(Exception):
    """The release cannot be built. The message says which input is wrong, or what pip said."""


@dataclass(frozen=True)
class Target:
    """The Python that the release is for: its version such as ``3.13``, and the platform tags of its wheels."""

    python_version: str
    architecture: str
    platforms: tuple[str, ...]

    @property
    def interpreter(self) -> str:
        """Its tag, such as ``cp313``."""
        return f"cp{self.python_version.replace('.', '')}"

    def environment(self) -> dict[str, str]:
        """What the markers of requirements are compared with: CPython on Linux."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python_version}.0",
            "os_name": "posix",
            "platform_machine": self.architecture,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python_version}.0",
            "python_version": self.python_version,
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Source:
    """What a release is made from: a folder, without what matches ``exclude``, and the lock of its dependencies.

    For people, ``name`` is what messages call the folder, and ``origin`` says in one line where it comes from.
    """

    folder: Path
    lock: Path
    name: str
    origin: str
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A file (``digest``: SHA-256 of its bytes) or a symbolic link (``link``: where to), by its path in a folder."""

    path: str
    digest: str = ""
    executable: bool = False
    link: str = ""


@dataclass(frozen=True)
class Release:
    """What a release consists of. ``id`` changes when anything in it does, and with nothing else."""

    source: Path
    entries: tuple[Entry, ...]
    requirements: tuple[str, ...]
    target: Target

    @property
    def packages_id(self) -> str:
        return digest([FORMAT, self.requirements, asdict(self.target)])

    @property
    def id(self) -> str:
        return digest([self.packages_id, [asdict(entry) for entry in self.entries]])


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:ID_LENGTH]


def default_platforms(architecture: str) -> tuple[str, ...]:
    """pip's tags of the wheels that Debian 13 runs on *architecture*, newest first."""
    names = [*(f"manylinux_2_{minor}" for minor in GLIBC_MINORS), *OLD_TAGS[architecture]]
    return tuple(f"{name}_{architecture}" for name in names)


def read_lock(text: str, target: Target, name: str) -> tuple[str, ...]:
    """The lines of a lock that *target* needs, as ``package==version --hash=...`` without markers.

    pip compares markers with the Python that runs it, which is not the hosts'; so it is done here. ReleaseError for
    anything but exact versions with hashes.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # comes with Ansible

    lines = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words, *hashes = re.split(r"\s+--hash[=\s]\s*", re.sub(r"(^|\s)#.*", "", line).strip())
        if not words:
            continue
        try:
            requirement = Requirement(words)
        except InvalidRequirement as error:
            raise ReleaseError(
                f"{name}: '{words}' is not a requirement of the form NAME==VERSION --hash=..."
            ) from error
        if [specifier.operator for specifier in requirement.specifier] != ["=="] or "*" in str(requirement.specifier):
            raise ReleaseError(f"{name}: '{words}' is not locked to one version, NAME==VERSION.")
        if not hashes:
            raise ReleaseError(f"{name}: '{words}' has no hash. {MAKE_LOCK}")
        if requirement.marker is None or requirement.marker.evaluate(target.environment()):
            requirement.marker = None
            lines.append(" ".join([str(requirement), *(f"--hash={value.strip()}" for value in sorted(hashes))]))
    if not lines:
        raise ReleaseError(f"{name}: nothing in it is for Python {target.python_version} on Linux.")
    return tuple(lines)


def load_lock(lock: Path, target: Target) -> tuple[str, ...]:
    """What *read_lock* says of the file *lock*."""
    try:
        text = lock.read_text()
    except OSError as error:
        raise ReleaseError(f"requirements is {lock}: cannot read it ({error.strerror}). {MAKE_LOCK}") from error
    return read_lock(text, target, str(lock))


def left_out(path: PurePosixPath, exclude: Sequence[str]) -> bool:
    """Whether a pattern of *exclude* matches the name or the path."""
    return any(fnmatchcase(path.name, pattern) or fnmatchcase(str(path), pattern) for pattern in exclude)


def read_folder(folder: Path, exclude: Sequence[str] = ()) -> Iterator[Entry]:
    """The files and links under *folder*, sorted, but those whose name or path matches a pattern of *exclude*."""
    found = []
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in [*folders, *files]:
            path = PurePosixPath((Path(parent) / name).relative_to(folder))
            if left_out(path, exclude):
                if name in folders:
                    folders.remove(name)
            elif name in files or name in links:
                found.append(str(path))
    for path in sorted(found):
        yield read_entry(folder, path)


def read_entry(folder: Path, path: str) -> Entry:
    file = folder / path
    if file.is_symlink():
        link = os.readlink(file)
        if os.path.isabs(link) or not file.resolve().is_relative_to(folder.resolve()):
            raise ReleaseError(f"{file} is a link to {link}, outside of {folder}: a release holds its own files only.")
        return Entry(path, link=link)
    if not file.is_file():
        raise ReleaseError(f"{file} is neither a file, a folder nor a link: exclude it.")
    with file.open("rb") as content:
        if content.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ReleaseError(
                f"{file} stands for a file in Git LFS, which is not fetched: deploy a folder after 'git lfs pull'."
            )
        content.seek(0)
        checksum = hashlib.file_digest(content, "sha256").hexdigest()
    return Entry(path, checksum, bool(file.stat().st_mode & 0o100))


def describe(source: Source, target: Target) -> Release:
    """Read what a release of *source* would consist of; ReleaseError when it cannot be one."""
    requirements = load_lock(source.lock, target)
    return Release(source.folder, tuple(read_folder(source.folder, source.exclude)), requirements, target)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other run has locked the file at *path*, and keep it locked meanwhile."""
    with path.open("w") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ReleaseError(
                        f"Another run has kept {lock.name} for {LOCK_TIMEOUT} seconds: end it."
                    ) from None
                time.sleep(0.2)
        yield


@contextmanager
def exclusive(cache: Path) -> Iterator[Path]:
    """An empty folder in *cache*, on the same filesystem, that no other run uses meanwhile."""
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        new = cache / "new"
        shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
        new.mkdir()
        try:
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)


def pip_install(folder: Path, target: Target, what: str, *arguments: str) -> None:
    """Unpack the wheels of *arguments* into the new *folder*; ReleaseError with pip's words, and *what* it was for."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    command += ["--root-user-action=ignore", "--no-warn-script-location", "--no-compile", f"--target={folder}"]
    command += ["--only-binary=:all:", "--no-deps", *arguments]
    command += [f"--python-version={target.python_version}", "--implementation=cp", f"--abi={target.interpreter}"]
    command += [f"--platform={platform}" for platform in target.platforms]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PIP_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"pip had not installed {what} after {PIP_TIMEOUT} seconds.") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise ReleaseError(
            f"pip ({sys.executable} -m pip) cannot install {what} for Python {target.python_version} on "
            f"{target.architecture}:\n" + "\n".join(said[-12:])
        )
    # Scripts start with the path of this machine's Python, which programs do not; a wheel's own address is one of it.
    for script in (folder / "bin").glob("*"):
        if script.read_bytes()[:2] == b"#!":
            script.unlink()
    with suppress(OSError):  # where a program stays, or there never was one
        (folder / "bin").rmdir()
    for record in folder.glob("*.dist-info/RECORD"):
        address = record.with_name("direct_url.json")
        address.unlink(missing_ok=True)
        gone = ("../../bin/", f"{address.relative_to(folder)},")
        record.write_text("".join(line for line in record.open() if not line.startswith(gone)))


def install(release: Release, folder: Path) -> None:
    """Fetch the wheels of *release* and unpack them into the new *folder*; ReleaseError with pip's words."""
    lock = folder.with_name("requirements.txt")
    lock.write_text("\n".join(release.requirements) + "\n")
    pip_install(folder, release.target, "the requirements", "--require-hashes", f"--requirement={lock}")


def write_archive(archive: Path, parts: Sequence[tuple[str, Path, Sequence[Entry]]]) -> None:
    """A tar.gz of the *parts* (name in the archive, folder, entries), the same bytes for the same entries."""
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        folders: set[PurePosixPath] = set()
        for part, folder, entries in parts:
            for entry in entries:
                path = PurePosixPath(part, entry.path)
                for parent in sorted({*path.parents} - folders - {PurePosixPath(".")}):
                    folders.add(parent)
                    tar.addfile(member(parent, tarfile.DIRTYPE, 0o755))
                if entry.link:
                    tar.addfile(member(path, tarfile.SYMTYPE, 0o777, linkname=entry.link))
                    continue
                content = (folder / entry.path).read_bytes()
                if hashlib.sha256(content).hexdigest() != entry.digest:
                    raise ReleaseError(f"{folder / entry.path} changed while the release was made: run it again.")
                # Servers tell versions of a static file by its time and size, so the time follows from the content.
                mtime = int(entry.digest[:7], 16)
                mode = 0o755 if entry.executable else 0o644
                tar.addfile(member(path, tarfile.REGTYPE, mode, mtime, len(content)), io.BytesIO(content))


def member(
    path: PurePosixPath, kind: bytes, mode: int, mtime: int = 0, size: int = 0, linkname: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(str(path))
    info.type, info.mode, info.size, info.linkname = kind, mode, size, linkname
    info.mtime = 1_000_000_000 + mtime
    return info


def archive_path(cache: Path, release: Release) -> Path:
    return cache / "releases" / f"{release.id}.tar.gz"


def build(release: Release, cache: Path) -> bool:
    """Make the archive of *release* in *cache* unless it is there; True when it was made. Safe beside other runs."""
    archive = archive_path(cache, release)
    if archive.exists():
        return False
    with exclusive(cache) as new:
        if archive.exists():
            return False
        packages = cache / "site-packages" / release.packages_id
        if not packages.exists():
            install(release, new / "site-packages")
            packages.parent.mkdir(exist_ok=True)
            (new / "site-packages").rename(packages)
        parts = [
            ("app", release.source, release.entries),
            ("site-packages", packages, tuple(read_folder(packages))),
        ]
        write_archive(new / archive.name, parts)
        archive.parent.mkdir(exist_ok=True)
        (new / archive.name).rename(archive)
    return True
