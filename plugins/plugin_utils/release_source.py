# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a release comes from: a folder, a commit of a git repository, or a wheel. Each becomes a folder and a lock."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

from ansible_collections.c50k.stack.plugins.plugin_utils.git_mirror import (
    GitError,
    Repository,
    open_mirror,
    run_git,
    without_password,
)
from ansible_collections.c50k.stack.plugins.plugin_utils.release import (
    ReleaseError,
    Source,
    Target,
    left_out,
    load_lock,
    pip_install,
)

SHORT = 12  # characters of a commit


def is_address(source: str) -> bool:
    """Whether *source* is an address rather than a path, as git tells them apart: by a colon before any slash."""
    return re.match(r"[^/]+:", source) is not None


@contextmanager
def open_source(
    source: str, version: str, requirements: str, exclude: Sequence[str], target: Target, cache: Path
) -> Iterator[Source]:
    """The folder and lock that *source* and *version* stand for, which last as long as the ``with`` block.

    ReleaseError when there are none; those raised in the block call the folder by its name.
    """
    wheel = source.endswith(".whl") and not is_address(source)
    if wheel and version:
        raise ReleaseError(f"version is '{version}', which is for git, but source is a wheel: {source}. Leave one out.")
    with tempfile.TemporaryDirectory(prefix="c50k-") as name:
        temporary = Path(name).resolve()
        if wheel:
            found = from_wheel(Path(source), requirements, target, temporary)
        elif version or is_address(source):
            found = from_repository(source, version or "HEAD", requirements, exclude, cache, temporary)
        else:
            found = from_folder(Path(source), requirements, exclude)
        try:
            yield found
        except ReleaseError as error:
            raise ReleaseError(str(error).replace(str(found.folder), found.name)) from error


def from_folder(folder: Path, requirements: str, exclude: Sequence[str]) -> Source:
    if not folder.is_dir():
        what = "neither a folder nor a wheel (.whl)" if folder.exists() else "there is no such folder"
        raise ReleaseError(f"source is {folder}: {what}.")
    return Source(folder, folder / requirements, str(folder), f"folder {folder}", tuple(exclude))


def from_repository(
    source: str, version: str, requirements: str, exclude: Sequence[str], cache: Path, temporary: Path
) -> Source:
    """The files of the commit that *version* names, below *temporary*."""
    repository, subdirectory = split_address(source) if is_address(source) else find_repository(source, version)
    shown = without_password(source)
    with open_mirror(repository, cache, shown) as mirror:
        commit = mirror.resolve(version)
        tree = f"{commit}:{subdirectory}"
        try:
            submodules = mirror.submodules(tree)
        except GitError as error:
            raise ReleaseError(
                f"{shown}: there is no folder '{subdirectory}' in commit {commit[:SHORT]} (git says: {error})."
            ) from error
        wanted = [path for path in submodules if not is_left_out(PurePosixPath(path), exclude)]
        if wanted:
            raise ReleaseError(
                f"{shown}: a release cannot have git submodules, and commit {commit[:SHORT]} has {', '.join(wanted)}. "
                "Lock what is in them as packages, make them files of the repository, or deploy a folder."
            )
        mirror.export(commit, temporary / "commit")
        tags = mirror.refs(f"--points-at={commit}", "refs/tags")
    short = commit[:SHORT]
    what = short if commit.startswith(version) else f"{version} → {short}"
    tagged = f" (tag {', '.join(tags)})" if tags and version not in tags else ""
    folder = temporary / "commit" / subdirectory
    name = re.split("[/:]", repository.address.rstrip("/"))[-1].removesuffix(".git")
    origin = f"git {PurePosixPath(name, subdirectory)} {what}{tagged}"
    return Source(folder, folder / requirements, f"{shown}@{short}", origin, tuple(exclude))


def split_address(source: str) -> tuple[Repository, str]:
    """The repository at an address, and the path after ``#subdirectory=``."""
    address, _hash, fragment = source.partition("#")
    key, _equals, subdirectory = fragment.partition("=")
    if fragment and key != "subdirectory":
        raise ReleaseError(
            f"source is {without_password(source)}: after # comes subdirectory=PATH, and nothing else. "
            "A branch, tag or commit is named in version."
        )
    return Repository.parse(address), str(PurePosixPath(subdirectory)) if subdirectory else ""


def find_repository(folder: str, version: str) -> tuple[Repository, str]:
    """The repository on this machine that *folder* is in, and the path of *folder* in it."""
    if not Path(folder).is_dir():
        raise ReleaseError(f"source is {folder}: there is no such folder.")
    try:
        subdirectory = run_git("-C", folder, "rev-parse", "--show-prefix").strip().rstrip("/")
    except GitError as error:
        raise ReleaseError(
            f"version is '{version}', so source has to be in a git repository, but of {folder} git says: {error}. "
            "Without version, the folder is deployed as it is."
        ) from error
    root = str(Path(folder).resolve()).removesuffix(f"/{subdirectory}")
    return Repository(root), subdirectory


def is_left_out(path: PurePosixPath, exclude: Sequence[str]) -> bool:
    return any(left_out(part, exclude) for part in (path, *path.parents)[:-1])  # the last one is the folder itself


def from_wheel(wheel: Path, requirements: str, target: Target, temporary: Path) -> Source:
    """What the wheel installs, in a folder below *temporary*; its lock is sought from where the wheel is."""
    metadata = read_metadata(wheel)
    check_tags(wheel, target)
    name = f"{metadata['Name']} {metadata['Version']}"
    lock = wheel.parent / requirements
    missing = unlocked(metadata, load_lock(lock, target), target)
    if missing:
        raise ReleaseError(
            f"{wheel.name} requires {', '.join(missing)}, which {lock} does not lock: make the lock from the same "
            "source as the wheel."
        )
    pip_install(temporary / "wheel", target, wheel.name, str(wheel))
    return Source(temporary / "wheel", lock, str(wheel), f"wheel {name}")


def read_metadata(wheel: Path) -> Message:
    """The core metadata of a wheel; ReleaseError when there is no wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            if len(files) == 1:
                return BytesParser().parsebytes(archive.read(files[0]))
    except FileNotFoundError as error:
        others = ", ".join(sorted(path.name for path in wheel.parent.glob("*.whl"))) or "none"
        raise ReleaseError(f"source is {wheel}: there is no such file. Wheels in its folder: {others}.") from error
    except zipfile.BadZipFile:
        pass
    raise ReleaseError(f"source is {wheel}: that is not a wheel. Make one with 'uv build' or 'python -m build'.")


def check_tags(wheel: Path, target: Target) -> None:
    """ReleaseError unless *target* can use the wheel, by the tags in its name."""
    from packaging.tags import compatible_tags, cpython_tags  # comes with Ansible
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(wheel.name)[3]
    except InvalidWheelFilename as error:
        raise ReleaseError(f"source is {wheel}: {error}.") from error
    version = [int(part) for part in target.python_version.split(".")]
    usable = {*cpython_tags(version, [target.interpreter], target.platforms)}
    usable |= {*compatible_tags(version, target.interpreter, target.platforms)}
    if usable.isdisjoint(tags):
        raise ReleaseError(
            f"{wheel.name} is for {', '.join(sorted(map(str, tags)))}. The hosts have Python {target.python_version} "
            f"on {target.architecture}: build it as py3-none-any if it is pure, or else for {target.interpreter} and "
            f"{target.platforms[0]} or older."
        )


def unlocked(metadata: Message, lock: Sequence[str], target: Target) -> list[str]:
    """What the wheel requires on *target* that no line of *lock* gives."""
    from packaging.requirements import InvalidRequirement, Requirement  # comes with Ansible
    from packaging.utils import canonicalize_name

    versions = {}
    for line in lock:
        locked = Requirement(line.split(" --hash")[0])
        versions[canonicalize_name(locked.name)] = next(iter(locked.specifier)).version
    missing = []
    for text in metadata.get_all("Requires-Dist", []):
        try:
            required = Requirement(text)
        except InvalidRequirement as error:
            raise ReleaseError(f"{metadata['Name']} requires '{text}', which names no package.") from error
        if required.marker and not required.marker.evaluate({**target.environment(), "extra": ""}):
            continue
        version = versions.get(canonicalize_name(required.name))
        if version is None or not required.specifier.contains(version, prereleases=True):
            missing.append(text.partition(";")[0].strip())
    return missing
