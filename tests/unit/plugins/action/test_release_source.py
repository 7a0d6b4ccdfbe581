"""Releases from real git repositories, over real transports, and from wheels made here."""

import base64
import functools
import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.c50k.stack.plugins.plugin_utils.release import (
    EXCLUDE,
    ReleaseError,
    Target,
    archive_path,
    build,
    default_platforms,
    describe,
)
from ansible_collections.c50k.stack.plugins.plugin_utils.release_source import open_source
from wheels import make_wheel

TARGET = Target("3.13", "x86_64", default_platforms("x86_64"))
LOCK = "pure==1.0 --hash=sha256:" + 64 * "0" + "\n"


class Repository:
    """A repository with a work tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: dict[str, str] | None = None) -> str:
        """Commit *files*, text by path, with whatever else has changed, and return the commit."""
        for name, text in (files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git with a configuration of the test's own."""
    (tmp_path / "gitconfig").write_text("[user]\nname = me\nemail = me@example.com\n[protocol.file]\nallow = always\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two commits on main, the first of them tagged v1."""
    repository = Repository(tmp_path / "service")
    repository.commit({"main.py": "app = 1\n", "requirements.txt": LOCK})
    repository.git("tag", "--annotate", "--message=first", "v1")
    repository.commit({"main.py": "app = 2\n"})
    return repository


class Told:
    """What a source says: the id of its release, its origin, and the text of each file by its path."""

    def __init__(
        self, tmp_path: Path, source: object, version: str = "", requirements: str = "requirements.txt"
    ) -> None:
        with open_source(str(source), version, requirements, EXCLUDE, TARGET, tmp_path / "cache") as opened:
            release = describe(opened, TARGET)
            self.files = {entry.path: (opened.folder / entry.path).read_text() for entry in release.entries}
        self.folder = opened.folder
        self.id = release.id
        self.origin = opened.origin


def test_a_version_is_a_branch_a_tag_or_a_commit(tmp_path: Path, repository: Repository) -> None:
    first, second = repository.git("rev-parse", "v1^{commit}"), repository.git("rev-parse", "main")
    address = f"file://{repository.folder}"
    for version, text, said in [
        ("", "app = 2\n", f"HEAD → {second[:12]}"),
        ("HEAD", "app = 2\n", f"HEAD → {second[:12]}"),
        ("main", "app = 2\n", f"main → {second[:12]}"),
        (second, "app = 2\n", second[:12]),
        ("v1", "app = 1\n", f"v1 → {first[:12]}"),
        ("main~1", "app = 1\n", f"main~1 → {first[:12]} (tag v1)"),
        ("HEAD~1", "app = 1\n", f"HEAD~1 → {first[:12]} (tag v1)"),
        (first[:9], "app = 1\n", f"{first[:12]} (tag v1)"),
    ]:
        told = Told(tmp_path, address, version)
        assert (told.files["main.py"], told.origin) == (text, f"git service {said}")
        assert not told.folder.exists()


def test_the_same_content_is_the_same_release_whether_from_a_folder_or_from_git(
    tmp_path: Path, repository: Repository
) -> None:
    (repository.folder / "run.sh").write_text("#!/bin/sh\n")
    (repository.folder / "run.sh").chmod(0o755)
    (repository.folder / "latest").symlink_to("main.py")
    # What `git archive` would leave out or fill in, and line ends as a clone has them.
    repository.commit(
        {
            ".gitattributes": "*.txt export-ignore\nversion.py export-subst\n*.bat eol=crlf\n",
            "version.py": "commit = '$Format:%H$'\n",
            "start.bat": "one\ntwo\n",
        }
    )
    (repository.folder / "start.bat").unlink()
    repository.git("checkout", "--", "start.bat")
    told = [Told(tmp_path, repository.folder), Told(tmp_path, repository.folder, "main")]
    told.append(Told(tmp_path, f"file://{repository.folder}"))
    assert {one.id for one in told} == {told[0].id}
    assert (repository.folder / "start.bat").read_bytes() == b"one\r\ntwo\r\n"
    assert [one.origin.split()[0] for one in told] == ["folder", "git", "git"]


def test_what_is_not_committed_is_not_taken(tmp_path: Path, repository: Repository) -> None:
    (repository.folder / "main.py").write_text("app = 3\n")
    (repository.folder / "new.py").write_text("")
    repository.git("rm", "--cached", "--quiet", "requirements.txt")
    assert Told(tmp_path, repository.folder, "main").files == {"main.py": "app = 2\n", "requirements.txt": LOCK}
    assert Told(tmp_path, repository.folder).files["main.py"] == "app = 3\n"


def test_the_application_may_be_a_folder_of_the_repository(tmp_path: Path, repository: Repository) -> None:
    repository.commit({"apps/shop/main.py": "app = 4\n", "apps/shop/locks/linux.txt": LOCK})
    ids = set()
    for source, version in [
        (f"file://{repository.folder}#subdirectory=apps/shop", ""),
        (f"file://{repository.folder}#subdirectory=./apps/shop/", "main"),
        (repository.folder / "apps/shop", "main"),
        (repository.folder / "apps/shop", ""),
    ]:
        told = Told(tmp_path, source, version, "locks/linux.txt")
        assert set(told.files) == {"locks/linux.txt", "main.py"}
        assert told.origin.startswith("git service/apps/shop ") or told.origin == f"folder {source}"
        ids.add(told.id)
    assert len(ids) == 1


def objects(tmp_path: Path) -> int:
    [mirror] = (tmp_path / "cache/git").glob("*.git")
    command = ["git", f"--git-dir={mirror}", "count-objects", "-v"]
    counted = dict(line.split(": ") for line in subprocess.check_output(command, text=True).splitlines())
    assert counted["count"] == "0"
    return int(counted["in-pack"])


def test_the_second_run_fetches_only_what_is_new(tmp_path: Path, repository: Repository) -> None:
    address = f"file://{repository.folder}"
    Told(tmp_path, address)
    before = objects(tmp_path)
    commit = repository.commit({"main.py": "app = 3\n"})
    assert Told(tmp_path, address).files["main.py"] == "app = 3\n"
    assert objects(tmp_path) == before + 3  # the commit, its tree, and the file
    repository.folder.rename(tmp_path / "gone")
    assert Told(tmp_path, address, commit).files["main.py"] == "app = 3\n"
    with pytest.raises(ReleaseError, match=f"git cannot fetch {address}: fatal: .*does not appear to be"):
        Told(tmp_path, address, "main")


def test_what_moved_or_went_away_is_seen(tmp_path: Path, repository: Repository) -> None:
    repository.git("branch", "topic")
    assert Told(tmp_path, repository.folder, "topic").files["main.py"] == "app = 2\n"
    repository.git("branch", "--delete", "--force", "topic")
    repository.git("branch", "topic/one")
    repository.git("tag", "--force", "v1", "main")
    repository.git("reset", "--quiet", "--hard", "main~1")
    assert Told(tmp_path, repository.folder, "main").files["main.py"] == "app = 1\n"
    assert Told(tmp_path, repository.folder, "v1").files["main.py"] == "app = 2\n"
    with pytest.raises(ReleaseError, match=r"version is 'topic': .*service has no such .*\. Near: topic/one\."):
        Told(tmp_path, repository.folder, "topic")


def test_a_commit_on_no_branch_is_found_by_its_whole_name(tmp_path: Path, repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--detach")
    commit = repository.commit({"main.py": "app = 9\n"})
    assert Told(tmp_path, repository.folder, "HEAD").files["main.py"] == "app = 9\n"
    repository.git("checkout", "--quiet", "main")
    other = repository.commit({"main.py": "app = 10\n"})
    repository.git("reset", "--quiet", "--hard", "main~1")
    assert Told(tmp_path, repository.folder, commit).files["main.py"] == "app = 9\n"
    assert Told(tmp_path, repository.folder, other).files["main.py"] == "app = 10\n"


def test_the_head_is_the_repositorys(tmp_path: Path, repository: Repository) -> None:
    address = f"file://{repository.folder}"
    repository.git("checkout", "--quiet", "-b", "release", "v1")
    assert Told(tmp_path, address).files["main.py"] == "app = 1\n"
    repository.git("checkout", "--quiet", "main")
    assert Told(tmp_path, address).files["main.py"] == "app = 2\n"
    repository.git("checkout", "--quiet", "--orphan", "nothing")
    assert Told(tmp_path, address, "release").files["main.py"] == "app = 1\n"
    with pytest.raises(ReleaseError, match="git cannot fetch .*couldn't find remote ref HEAD"):
        Told(tmp_path, address)


def test_a_shallow_clone_and_a_bare_repository_will_do(tmp_path: Path, repository: Repository) -> None:
    for name, options in {"shallow": ["--depth=1"], "bare": ["--bare"]}.items():
        command = ["git", "clone", "--quiet", *options, f"file://{repository.folder}", tmp_path / name]
        subprocess.run(command, check=True)
        assert Told(tmp_path, tmp_path / name, "main").files["main.py"] == "app = 2\n"


def test_a_deploy_from_a_hook_reads_its_own_repository(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"shop/main.py": "app = 5\n", "shop/requirements.txt": LOCK})
    other = tmp_path / "other.git"
    subprocess.run(["git", "init", "--quiet", "--bare", other], check=True)
    for name, path in {"GIT_DIR": "", "GIT_INDEX_FILE": "index", "GIT_OBJECT_DIRECTORY": "objects"}.items():
        monkeypatch.setenv(name, str(other / path))
    assert Told(tmp_path, repository.folder / "shop", "main").files["main.py"] == "app = 5\n"
    assert not [path for path in (other / "objects").rglob("*") if path.is_file()]


def test_runs_at_once_get_their_own_commits(tmp_path: Path, repository: Repository) -> None:
    versions = ["main", "v1"] * 4
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda version: Told(tmp_path, repository.folder, version), versions))
    assert [one.files["main.py"] for one in told] == ["app = 2\n", "app = 1\n"] * 4


def test_what_a_killed_run_left_in_the_mirror_does_no_harm(tmp_path: Path, repository: Repository) -> None:
    Told(tmp_path, repository.folder, "v1")
    [mirror] = (tmp_path / "cache/git").glob("*.git")
    for left in ("config.lock", "packed-refs.lock", "refs/heads/main.lock", "HEAD.lock"):
        (mirror / left).touch()
    (mirror / "HEAD").unlink()
    repository.commit({"main.py": "app = 3\n"})
    assert Told(tmp_path, repository.folder, "main").files["main.py"] == "app = 3\n"


def test_submodules_are_refused_unless_they_are_left_out(tmp_path: Path, repository: Repository) -> None:
    Repository(tmp_path / "module").commit({"file.txt": ""})
    repository.git("submodule", "--quiet", "add", str(tmp_path / "module"), "tests/data")
    repository.commit()
    assert set(Told(tmp_path, repository.folder, "main").files) == {"main.py", "requirements.txt"}
    repository.git("submodule", "--quiet", "add", str(tmp_path / "module"), "library")
    commit = repository.commit()
    with pytest.raises(ReleaseError, match=f"cannot have git submodules, and commit {commit[:12]} has library"):
        Told(tmp_path, repository.folder, "main")


def test_files_in_git_lfs_are_refused_unless_they_are_left_out(tmp_path: Path, repository: Repository) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 9\n"
    repository.commit({"tests/large.bin": pointer})
    assert "tests/large.bin" not in Told(tmp_path, repository.folder, "main").files
    repository.commit({"static/large.bin": pointer})
    for version in ("main", ""):
        with pytest.raises(ReleaseError, match=r"service.*/static/large\.bin stands for a file in Git LFS"):
            Told(tmp_path, repository.folder, version)


@pytest.mark.parametrize(
    ("source", "version", "message"),
    [
        ("{address}", "mian", r"version is 'mian': {address} has no such branch, tag or commit\. Near: main\."),
        ("{address}", "1.0", r"has no such branch, tag or commit\. It has: main, v1\."),
        ("{address}", "f" * 40, "has no such branch, tag or commit"),
        ("{address}", "--all", "version is '--all'"),
        ("{address}#subdirectory=apps", "", r"there is no folder 'apps' in commit [0-9a-f]{{12}} \(git says: fatal: "),
        ("{address}#subdirectory=main.py", "", "there is no folder 'main.py' in commit"),
        ("{address}#subdirectory=../x", "", r"there is no folder '\.\./x' in commit"),
        ("{address}#main", "", r"source is {address}#main: after # comes subdirectory=PATH, .* is named in version"),
        ("{address}x", "", r"git cannot fetch {address}x: fatal: '.*servicex' does not appear to be"),
        ("{folder}x", "main", "source is {folder}x: there is no such folder"),
        ("{folder}x", "", "source is {folder}x: there is no such folder"),
        ("{folder}/..", "main", r"has to be in a git repository, but of .* git says: fatal: not a git repository"),
        ("{folder}/main.py", "", "source is .*main.py: neither a folder nor a wheel"),
        ("https://me:hidden/secret@example.com/x.git", "", "source is an address that cannot be read; it is not shown"),
        ("ext::sh -c x", "", "git cannot fetch ext::sh -c x: fatal: transport 'ext' not allowed"),
        ("service-1.0-py3-none-any.whl", "main", "version is 'main', which is for git, but source is a wheel"),
    ],
)
def test_a_source_that_is_not_there_is_refused(
    tmp_path: Path, repository: Repository, source: str, version: str, message: str
) -> None:
    names = {"address": f"file://{repository.folder}", "folder": str(repository.folder)}
    with pytest.raises(ReleaseError, match=message.format(**names)) as refused:
        Told(tmp_path, source.format(**names), version)
    assert "hidden" not in str(refused.value) and "secret" not in str(refused.value)


def test_messages_name_the_repository_and_not_where_it_was_unpacked(tmp_path: Path, repository: Repository) -> None:
    address = f"file://{repository.folder}"
    (repository.folder / "outside").symlink_to("../wheels")
    short = repository.commit()[:12]
    with pytest.raises(ReleaseError, match=f"^{address}@{short}/outside is a link to ../wheels, outside of {address}@"):
        Told(tmp_path, address)
    with pytest.raises(ReleaseError, match=f"^requirements is {address}@{short}/lock.txt: cannot read it .* Make the "):
        Told(tmp_path, address, requirements="lock.txt")


def test_a_control_node_without_git_is_told(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReleaseError, match="the control node, has no git: install it"):
        Told(tmp_path, repository.folder, "main")
    assert Told(tmp_path, repository.folder).files["main.py"] == "app = 2\n"


PASSWORD = "pass@word/1"
IN_ADDRESS = "pass%40word%2F1"


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a repository to ``me`` with the password, and notes each argument list that has it in some spelling."""

    seen: list[bytes] = []
    asked: list[str | None] = []

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.asked.append(given)
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = process.read_bytes()
            except OSError:
                continue
            if PASSWORD.encode() in arguments or IN_ADDRESS.encode() in arguments:
                self.seen.append(arguments)
        if given == "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode():
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, repository: Repository) -> Iterator[str]:
    """The server's name and port."""
    bare = tmp_path / "served/service.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", repository.folder, bare], check=True)
    subprocess.run(["git", f"--git-dir={bare}", "update-server-info"], check=True)
    Server.seen, Server.asked = [], []
    handler = functools.partial(Server, directory=str(bare.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_password_in_the_address_is_used_and_never_seen(tmp_path: Path, server: str) -> None:
    # the user's own helper would give another one
    with (tmp_path / "gitconfig").open("a") as configuration:
        configuration.write('[credential]\nhelper = "!echo username=other; echo password=wrong; :"\n')
    told = Told(tmp_path, f"http://me:{IN_ADDRESS}@{server}/service.git", "main")
    assert told.files["main.py"] == "app = 2\n"
    assert told.origin.startswith("git service main → ")
    assert Server.asked and not Server.seen
    kept = subprocess.run(
        ["grep", "-rlE", f"{PASSWORD}|{IN_ADDRESS}", tmp_path / "cache"], capture_output=True, text=True, check=False
    )
    assert (kept.returncode, kept.stdout) == (1, "")


def test_a_wrong_password_and_none_are_refused_without_a_question(tmp_path: Path, server: str) -> None:
    for user, said in {f"me:x{IN_ADDRESS}@": "Authentication failed for", "": "could not read Username"}.items():
        with pytest.raises(ReleaseError, match=f"git cannot fetch http://{server}/service.git: .*{said}") as no:
            Told(tmp_path, f"http://{user}{server}/service.git")
        assert PASSWORD not in str(no.value) and IN_ADDRESS not in str(no.value)


def test_the_users_own_credentials_are_used(tmp_path: Path, server: str) -> None:
    (tmp_path / "password").write_text(f"username=me\npassword={PASSWORD}\n")
    with (tmp_path / "gitconfig").open("a") as configuration:
        configuration.write(f'[credential]\nhelper = "!cat {tmp_path}/password; :"\n')
    assert Told(tmp_path, f"http://{server}/service.git").files["main.py"] == "app = 2\n"


def test_ssh_has_no_terminal_to_ask_on(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal, as a user runs it, with an ssh that says whether it could ask, and then serves."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\n(: </dev/tty) 2>/dev/null && touch {tmp_path}/asked\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    code = f"import test_release_source as t; t.Told(t.Path({str(tmp_path)!r}), 'me@host:{repository.folder}')"
    (tmp_path / "run.py").write_text(f"import sys; sys.path[:0] = {sys.path!r}\n{code}\n")
    command = ["script", "--quiet", "--return", "--command", f"{sys.executable} {tmp_path}/run.py", "/dev/null"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout
    assert not (tmp_path / "asked").exists()


SERVICE = {
    "service/__init__.py": "",
    "service/alembic.ini": "[alembic]\n",
    "service-1.2.data/data/settings.ini": "[settings]\n",
}


@pytest.fixture
def wheel(wheels: Path) -> Path:
    """The wheel of a service that requires one package, and its lock beside it."""
    folder = wheels.parent / "dist"
    folder.mkdir()
    (folder / "requirements.txt").write_text(f"pure==1.0 {make_wheel(wheels, 'pure', 'py3-none-any', 'pure')}\n")
    requires = "Requires-Dist: Pure>=1\nRequires-Dist: fast; extra == 'fast'\nRequires-Dist: old; python_version<'3'\n"
    make_wheel(folder, "main", "py3-none-any", "service", "1.2", requires, SERVICE)
    return folder / "main-1.2-py3-none-any.whl"


def test_a_wheel_is_what_it_installs(tmp_path: Path, wheel: Path) -> None:
    with open_source(str(wheel), "", "requirements.txt", EXCLUDE, TARGET, tmp_path / "cache") as opened:
        assert opened.origin == "wheel main 1.2"
        release = describe(opened, TARGET)
        assert build(release, tmp_path / "cache") is True
    (tmp_path / "host").mkdir()
    with tarfile.open(archive_path(tmp_path / "cache", release)) as tar:
        tar.extractall(tmp_path / "host", filter="data")
    app = tmp_path / "host/app"
    assert (app / "service/alembic.ini").is_file() and (app / "settings.ini").is_file()
    assert not list(app.rglob("bin")) and str(tmp_path) not in (app / "main-1.2.dist-info/RECORD").read_text()
    code = "import importlib.metadata as m, main, pure; main.main(); pure.main(); print(m.version('main'))"
    environment = {"PYTHONPATH": str(tmp_path / "host/site-packages")}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=app, env=environment, capture_output=True, text=True, check=False
    )
    assert said.stdout == "service\npure\n1.2\n", said.stderr


def test_the_same_wheel_is_the_same_release_wherever_and_whenever_it_was_made(tmp_path: Path, wheel: Path) -> None:
    first = Told(tmp_path, wheel)
    moved = wheel.parent.rename(tmp_path / "elsewhere") / wheel.name
    os.utime(moved, (0, 0))
    assert Told(tmp_path, moved).id == first.id
    requires = "Requires-Dist: pure\n"
    make_wheel(moved.parent, "main", "py3-none-any", "changed", "1.2", requires, SERVICE)
    assert Told(tmp_path, moved).id != first.id


def test_a_wheel_for_the_hosts_platform_will_do(tmp_path: Path, wheel: Path) -> None:
    for tag in ("cp313-cp313-manylinux_2_28_x86_64", "cp39-abi3-manylinux2014_x86_64", "py2.py3-none-any"):
        make_wheel(wheel.parent, "main", tag, "service", "1.3")
        assert Told(tmp_path, wheel.with_name(f"main-1.3-{tag}.whl")).origin == "wheel main 1.3"


@pytest.mark.parametrize(
    ("name", "headers", "message"),
    [
        (
            "main-1.2-cp311-cp311-linux_x86_64",
            "",
            r"is for cp311-cp311-linux_x86_64\. The hosts have Python 3\.13 on x86_64",
        ),
        (
            "main-1.2-cp313-cp313-macosx_11_0_arm64",
            "",
            "build it as py3-none-any if it is pure, or else for cp313 and manylinux",
        ),
        (
            "main-1.2-cp313-cp313-manylinux_2_28_aarch64",
            "",
            "manylinux_2_28_aarch64. The hosts have Python 3.13 on x86_64",
        ),
        ("main-1.2-cp313-cp313t-manylinux_2_28_x86_64", "", "is for cp313-cp313t-manylinux_2_28_x86_64"),
        (
            "main-1.2-py3-none-any",
            "Requires-Dist: pure>=2\n",
            r"requires pure>=2, which .*requirements\.txt does not lock",
        ),
        (
            "main-1.2-py3-none-any",
            "Requires-Dist: other[x]~=1.1\n",
            r"requires other\[x\]~=1\.1, which .* does not lock",
        ),
        ("main-1.2-py3-none-any", "Requires-Dist: no package\n", "main requires 'no package', which names no package"),
        (
            "main-1.2-py3-none-any",
            "Requires-Python: <3.12\n",
            r"(?s)pip .* cannot install main-1\.2.*requires a different Python",
        ),
    ],
)
def test_a_wheel_that_does_not_fit_is_refused(
    tmp_path: Path, wheel: Path, name: str, headers: str, message: str
) -> None:
    make_wheel(wheel.parent, "main", name.removeprefix("main-1.2-"), "service", "1.2", headers)
    with pytest.raises(ReleaseError, match=message):
        Told(tmp_path, wheel.with_name(f"{name}.whl"))


def test_what_is_no_wheel_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(
        ReleaseError, match=r"there is no such file\. Wheels in its folder: main-1\.2-py3-none-any\.whl\."
    ):
        Told(tmp_path, wheel.with_name("main-1.3-py3-none-any.whl"))
    with pytest.raises(ReleaseError, match=r"main\.whl: .*[Ii]nvalid wheel filename"):
        Told(tmp_path, wheel.rename(wheel.with_name("main.whl")))
    wheel.write_text("text")
    with pytest.raises(ReleaseError, match=r"any\.whl: that is not a wheel\. Make one with 'uv build'"):
        Told(tmp_path, wheel)
    with pytest.raises(ReleaseError, match=r"requirements is .*dist/lock\.txt: cannot read it .*\. Make the lock with"):
        make_wheel(wheel.parent, "main", "py3-none-any", "service", "1.2")
        Told(tmp_path, wheel, requirements="lock.txt")


def play(tmp_path: Path, *tasks: dict[str, object]) -> tuple[list[dict[str, object]], str]:
    """The results of the tasks of a playbook in *tmp_path*, and all that was said."""
    names = [f"task{number}" for number in range(len(tasks))]
    named = [{**task, "register": name, "ignore_errors": True} for task, name in zip(tasks, names, strict=True)]
    copy = {"content": "{{ [" + ", ".join(names) + "] | to_json }}", "dest": str(tmp_path / "results")}
    plays = [{"hosts": "localhost", "gather_facts": False, "tasks": [*named, {"ansible.builtin.copy": copy}]}]
    (tmp_path / "play.yml").write_text(json.dumps(plays))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-vvvv", tmp_path / "play.yml"]
    run = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120, check=False)
    assert run.returncode == 0, run.stdout
    return json.loads((tmp_path / "results").read_text()), run.stdout + run.stderr


def test_the_task_makes_a_release_of_each(tmp_path: Path, wheel: Path, repository: Repository, server: str) -> None:
    repository.commit({"requirements.txt": (wheel.parent / "requirements.txt").read_text()})
    task = functools.partial(dict, cache_dir=str(tmp_path / "cache"))
    git = {"c50k.stack.python_release": task(source="service", version="main")}
    built = {"c50k.stack.python_release": task(source=f"dist/{wheel.name}")}
    folder = {"c50k.stack.python_release": task(source="service")}
    private = {"c50k.stack.python_release": task(source=f"http://me:{IN_ADDRESS}@{server}/service.git", version="v2")}
    results, said = play(
        tmp_path, {**git, "check_mode": True}, git, folder, {**built, "check_mode": True}, built, built, private
    )
    assert [result["changed"] for result in results] == [True, True, False, True, True, False, False]
    assert len({result["id"] for result in results[:3]}) == len({result["id"] for result in results[3:6]}) == 1
    short = repository.git("rev-parse", "main")[:12]
    origins = [str(result["origin"]).replace(str(tmp_path), "") for result in results[:6]]
    assert origins == [f"git service main → {short}"] * 2 + ["folder /service"] + ["wheel main 1.2"] * 3
    assert results[6]["msg"].startswith(
        f"No release was made. version is 'v2': http://{server}/service.git has no such"
    )
    assert IN_ADDRESS not in said and PASSWORD not in said and not Server.seen
