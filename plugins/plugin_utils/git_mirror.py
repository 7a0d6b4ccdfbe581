# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bare mirrors of git repositories, kept in the cache so that a run fetches only what is new.

git reads the user's own configuration, credential helpers and SSH agent, and asks nobody. A password inside an address
reaches it through the environment: arguments are for every process to see, and messages for every reader of a log.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible_collections.c50k.stack.plugins.plugin_utils.release import ReleaseError, digest, locked

# Seconds that one call of git may take.
GIT_TIMEOUT = 900
# What git sets around a hook, which may start a deploy: they name the hook's repository.
HOOK_VARIABLES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_WORK_TREE",
}
CREDENTIAL_HELPER = (
    '!f() { test "$1" != get || printf "username=%s\\npassword=%s\\n" "$C50K_GIT_USERNAME" "$C50K_GIT_PASSWORD"; }; f'
)
# The repository's HEAD; the mirror's own would be a branch of some name.
HEAD = "refs/c50k/HEAD"
WHOLE_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitError(ReleaseError):
    """git has failed. The message is what it said, without passwords."""


def without_password(text: str) -> str:
    """*text* with the user and password of each address taken out."""
    return re.sub(r"://[^/\s]*@", "://", text)


def run_git(*arguments: str, **environment: str) -> str:
    """What git prints; GitError with what it says when it fails."""
    inherited = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    # In a session of its own there is no terminal that ssh could ask; an empty GIT_ASKPASS is no program to ask with.
    # git-lfs would look for its server in the mirror's configuration, where none is.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        with subprocess.Popen(
            ["git", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={"GIT_ASKPASS": "", **inherited, **quiet, **environment},
            start_new_session=True,
        ) as process:
            try:
                said, errors = process.communicate(timeout=GIT_TIMEOUT)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # with its ssh
                raise
    except FileNotFoundError as error:
        raise ReleaseError(
            "source is in a git repository, and this machine, the control node, has no git: install it "
            "(apt-get install git), or give a folder or a wheel."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"no end after {GIT_TIMEOUT} seconds") from error
    if process.returncode:
        raise GitError(without_password(" ".join(errors.split())))
    return said


@dataclass(frozen=True)
class Repository:
    """Where a repository is: an address or path, and the user and password that were inside of the address."""

    address: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, address: str) -> Repository:
        try:
            parts = urlsplit(address)
            _port = parts.port
        except ValueError:
            raise ReleaseError(
                "source is an address that cannot be read; it is not shown, since it may hold a password. In one, "
                "characters such as / and # are written %2F and %23."
            ) from None
        if parts.scheme not in ("http", "https") or parts.username is None:
            return cls(address)
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return cls(bare, (unquote(parts.username), unquote(parts.password or "")))

    @property
    def server(self) -> str:
        return urlunsplit(urlsplit(self.address)[:2] + ("", "", ""))


@dataclass(frozen=True)
class Mirror:
    """The mirror of *repository* in *folder*. ``name`` is what messages call the repository."""

    repository: Repository
    folder: Path
    name: str

    def git(self, *arguments: str, **environment: str) -> str:
        return run_git(f"--git-dir={self.folder}", *arguments, **environment)

    def fetch(self, *refspecs: str) -> None:
        """Bring what *refspecs* name up to date."""
        # Packs appear whole, so that a commit that is here is here with all it needs; and no garbage collection
        # outlives the lock.
        settings = ["-c", "fetch.unpackLimit=1", "-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"]
        environment = {}
        if self.repository.credentials:
            # For this server alone, and before any helper of the user's.
            helper = f"credential.{self.repository.server}.helper"
            settings += ["-c", f"{helper}=", "-c", f"{helper}={CREDENTIAL_HELPER}"]
            username, password = self.repository.credentials
            environment = {"C50K_GIT_USERNAME": username, "C50K_GIT_PASSWORD": password}
        options = ["--quiet", "--prune", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
        options += ["--update-shallow"]  # a clone that is shallow itself, as those of CI are
        try:
            self.git(*settings, "fetch", *options, "--", self.repository.address, *refspecs, **environment)
        except GitError as error:
            raise GitError(f"git cannot fetch {self.name}: {error}") from error

    def find(self, version: str) -> str | None:
        """The commit that *version* names in the mirror as it is."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{version}^{{commit}}").strip()
        except GitError:
            return None

    def resolve(self, version: str) -> str:
        """The commit that *version* names in the repository; ReleaseError, with names that are there, when none."""
        whole = WHOLE_COMMIT.fullmatch(version)
        if whole and self.find(version):
            return version  # what it names cannot have changed
        head = [f"+HEAD:{HEAD}"] if version.startswith(("HEAD", "@")) else []
        self.fetch("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", *head)
        if whole and not self.find(version):
            with suppress(GitError):
                self.fetch(version)  # on no branch: of a merge request, or of a detached HEAD
        commit = self.find(version)
        if commit is None:
            names = self.refs("--sort=-creatordate", "refs/heads", "refs/tags")
            near = get_close_matches(version, names, 5, 0.5)
            raise ReleaseError(
                f"version is '{version}': {self.name} has no such branch, tag or commit. "
                + (f"Near: {', '.join(near)}." if near else f"It has: {', '.join(names[:10]) or 'none'}.")
            )
        return commit

    def refs(self, *options: str) -> list[str]:
        """The short names of branches and tags that git selects by *options*."""
        return self.git("for-each-ref", "--format=%(refname:strip=2)", *options).splitlines()

    def submodules(self, tree: str) -> list[str]:
        """The paths in *tree* at which other repositories belong."""
        entries = self.git("ls-tree", "-r", "-z", tree).split("\0")
        return [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]

    def export(self, commit: str, folder: Path) -> None:
        """Fill the new *folder* with the files of *commit*, as a fresh clone has them."""
        folder.mkdir()
        index = {"GIT_INDEX_FILE": str(folder.with_name("index"))}
        self.git(f"--work-tree={folder}", "read-tree", "--reset", "-u", commit, **index)


@contextmanager
def open_mirror(repository: Repository, cache: Path, name: str) -> Iterator[Mirror]:
    """The mirror of *repository* in *cache*, made when there is none, which no other run uses meanwhile."""
    folder = cache / "git" / f"{digest(repository.address)}.git"
    cache.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        for left in folder.rglob("*.lock"):  # by a run that was killed
            left.unlink()
        run_git("init", "--quiet", "--bare", "--template=", str(folder))
        mirror = Mirror(repository, folder, name)
        mirror.git("symbolic-ref", "HEAD", HEAD)
        yield mirror
