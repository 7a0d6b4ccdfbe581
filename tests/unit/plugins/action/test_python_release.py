"""Releases made by the real pip, from wheels made here, so that no registry is asked."""

import json
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.c50k.stack.plugins.plugin_utils import release as releases
from ansible_collections.c50k.stack.plugins.plugin_utils.release import (
    EXCLUDE,
    ReleaseError,
    Target,
    archive_path,
    build,
    default_platforms,
    describe,
    read_lock,
)
from ansible_collections.c50k.stack.plugins.plugin_utils.release_source import from_folder
from wheels import make_wheel

TARGET = Target("3.13", "x86_64", default_platforms("x86_64"))
HASH = "--hash=sha256:" + 64 * "0"


@pytest.fixture
def source(tmp_path: Path, wheels: Path) -> Path:
    """An application with a lock of two packages."""
    pure = make_wheel(wheels, "pure", "py3-none-any", "pure")
    native = make_wheel(wheels, "native", "cp313-cp313-manylinux_2_28_x86_64", "for the hosts")
    other = make_wheel(wheels, "native", "cp311-cp311-manylinux_2_28_x86_64", "for another Python")
    app = tmp_path / "app"
    (app / "service").mkdir(parents=True)
    (app / "service/main.py").write_text("app = 1\n")
    (app / "run.sh").write_text("#!/bin/sh\n")
    (app / "run.sh").chmod(0o700)
    (app / "latest").symlink_to("service/main.py")
    for junk in (".git/config", ".env", "service/__pycache__/main.pyc", "tests/test_main.py"):
        (app / junk).parent.mkdir(parents=True, exist_ok=True)
        (app / junk).write_text("secret")
    (app / "requirements.txt").write_text(
        f"# made by a tool\npure==1.0 {pure}\nnative==1.0 ; python_version >= '3.13' \\\n    {native} \\\n    {other}\n"
        f"    # via service\nwindows==1.0 ; sys_platform == 'win32' {HASH}\nold==1.0 ; python_version < '3.13' {HASH}\n"
    )
    return app


def described(source: Path, target: Target = TARGET) -> releases.Release:
    return describe(from_folder(source, "requirements.txt", EXCLUDE), target)


def test_the_archive_holds_the_source_and_the_packages_of_the_target(source: Path, tmp_path: Path) -> None:
    release = described(source)
    assert build(release, tmp_path / "cache") is True
    archive = archive_path(tmp_path / "cache", release)
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    (tmp_path / "host").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "host"], check=True)  # as the hosts do
    assert [name for name in members if name.startswith("app/")] == [
        "app/latest",
        "app/requirements.txt",
        "app/run.sh",
        "app/service",
        "app/service/main.py",
    ]
    assert members["app/latest"].linkname == "service/main.py"
    assert (members["app/run.sh"].mode, members["app/requirements.txt"].mode) == (0o755, 0o644)
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert members["site-packages"].isdir() and members["site-packages"].mode == 0o755
    # Scripts of the control node's Python are of no use on a host, and the packages' records know nothing of them.
    assert not [name for name in members if "/bin" in name]
    assert "bin/" not in (tmp_path / "host/site-packages/pure-1.0.dist-info/RECORD").read_text()
    said = subprocess.run(
        [sys.executable, "-c", "import native, pure; native.main(); pure.main()"],
        env={"PYTHONPATH": str(tmp_path / "host/site-packages")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "for the hosts\npure\n"


def test_a_program_of_a_package_is_there_and_can_be_run(tmp_path: Path, wheels: Path) -> None:
    program = {"tool-1.0.data/scripts/program": "\x7fELF", "tool-1.0.data/scripts/script": "#!python\n"}
    lock = tmp_path / "app/requirements.txt"
    lock.parent.mkdir()
    lock.write_text(f"tool==1.0 {make_wheel(wheels, 'tool', 'py3-none-any', 'tool', files=program)}\n")
    release = described(lock.parent)
    build(release, tmp_path / "cache")
    with tarfile.open(archive_path(tmp_path / "cache", release)) as tar:
        found = {member.name: member.mode for member in tar if "/bin/" in member.name}
    assert found == {"site-packages/bin/program": 0o755}


def test_the_same_content_makes_the_same_bytes_anywhere(source: Path, tmp_path: Path) -> None:
    first = described(source)
    build(first, tmp_path / "one")
    os.utime(source / "service/main.py", (0, 0))
    (source / "service/main.py").chmod(0o600)
    (source / "service/__pycache__/main.pyc").write_text("other")
    source = source.rename(tmp_path / "moved")
    second = described(source)
    build(second, tmp_path / "two")
    assert second.id == first.id
    archives = [archive_path(tmp_path / cache, first).read_bytes() for cache in ("one", "two")]
    assert archives[0] == archives[1]


def test_the_id_follows_everything_in_the_release(source: Path) -> None:
    ids = [described(source).id, described(source, Target("3.13", "x86_64", ("linux_x86_64",))).id]
    for change in (
        lambda: (source / "service/main.py").write_text("app = 2\n"),
        lambda: (source / "service/main.py").rename(source / "service/moved.py"),
        lambda: (source / "service/moved.py").chmod(0o755),
        (source / "latest").unlink,
        lambda: (source / "requirements.txt").write_text(f"pure==1.0 {HASH}\n"),
    ):
        change()
        ids.append(described(source).id)
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 12 and int(one, 16) >= 0 for one in ids)


def test_the_time_of_a_file_tells_its_versions_apart(source: Path, tmp_path: Path) -> None:
    times = []
    for text in ("app = 1\n", "app = 2\n", "app = 1\n"):
        (source / "service/main.py").write_text(text)
        release = described(source)
        build(release, tmp_path / "cache")
        with tarfile.open(archive_path(tmp_path / "cache", release)) as tar:
            times.append(tar.getmember("app/service/main.py").mtime)
    assert times[0] == times[2] != times[1]


def test_nothing_is_made_or_fetched_twice(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    assert build(described(source), cache) is True
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert build(described(source), cache) is False
    (source / "service/main.py").write_text("app = 2\n")
    assert build(described(source), cache) is True
    assert sorted(path.name for path in cache.iterdir()) == ["lock", "releases", "site-packages"]


def test_two_runs_at_once_make_one_archive(source: Path, tmp_path: Path) -> None:
    release = described(source)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(build, [release] * 2, [tmp_path / "cache"] * 2))
    assert sorted(made) == [False, True]


def test_what_a_killed_run_left_does_no_harm(source: Path, tmp_path: Path) -> None:
    release = described(source)
    half = tmp_path / "cache/new"
    (half / "site-packages/pure").mkdir(parents=True)
    (half / f"{release.id}.tar.gz").write_bytes(b"half")
    assert build(release, tmp_path / "cache") is True
    assert not half.exists()
    assert tarfile.is_tarfile(archive_path(tmp_path / "cache", release))


def test_a_file_that_changes_meanwhile_is_refused(source: Path, tmp_path: Path) -> None:
    release = described(source)
    (source / "service/main.py").write_text("app = 3\n")
    with pytest.raises(ReleaseError, match=r"service/main\.py changed while the release was made"):
        build(release, tmp_path / "cache")
    assert not archive_path(tmp_path / "cache", release).exists()


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        ("pure==1.0\n", "'pure==1.0' has no hash. Make the lock with"),
        (f"pure==1.* {HASH}\n", "is not locked to one version"),
        (f"pure>=1.0 {HASH}\n", "'pure>=1.0' is not locked to one version"),
        (f"pure {HASH}\n", "'pure' is not locked to one version"),
        (f"pure @ file:///pure.whl {HASH}\n", "is not locked to one version"),
        ("--index-url https://example.com\n", "is not a requirement of the form NAME==VERSION --hash=..."),
        ("-r other.txt\n", "'-r other.txt' is not a requirement"),
        ("# nothing\n", r"nothing in it is for Python 3\.13 on Linux"),
        (f"pure==1.0 ; sys_platform == 'darwin' {HASH}\n", r"nothing in it is for Python 3\.13 on Linux"),
    ],
)
def test_a_lock_that_locks_nothing_is_refused(lock: str, message: str) -> None:
    with pytest.raises(ReleaseError, match=f"lock.txt: .*{message}"):
        read_lock(lock, TARGET, "lock.txt")


def test_extras_stay_and_markers_are_the_targets() -> None:
    lock = f"a[fast]==1.0 ; python_full_version < '3.12' and platform_machine == 'aarch64' {HASH} --hash sha256:1\n"
    target = Target("3.11", "aarch64", default_platforms("aarch64"))
    assert read_lock(lock, target, "lock") == (f"a[fast]==1.0 {HASH} --hash=sha256:1",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("hash", r"pip \(.* -m pip\) cannot install the requirements for Python 3\.13 on x86_64:\n(.*\n)*.*pure"),
        ("version", "No matching distribution found for pure==2.0"),
    ],
)
def test_pip_says_which_requirement_it_cannot_install(source: Path, tmp_path: Path, wrong: str, message: str) -> None:
    (source / "requirements.txt").write_text(f"pure=={'1.0' if wrong == 'hash' else '2.0'} {HASH}\n")
    with pytest.raises(ReleaseError, match=message):
        build(described(source), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("site-packages/*"))


def test_a_source_that_cannot_be_released_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="there is no such folder"):
        described(tmp_path / "absent")
    with pytest.raises(ReleaseError, match="run.sh: neither a folder nor a wheel"):
        described(source / "run.sh")
    with pytest.raises(ReleaseError, match=r"requirements is .*app/absent\.txt: cannot read it \(No such file"):
        describe(from_folder(source, "absent.txt", EXCLUDE), TARGET)
    (source / "outside").symlink_to("../wheels")
    with pytest.raises(ReleaseError, match=r"outside is a link to \.\./wheels, outside of"):
        described(source)
    (source / "outside").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(ReleaseError, match="pipe is neither a file, a folder nor a link: exclude it"):
        described(source)


def test_the_task_tells_before_it_makes_and_makes_once(source: Path, tmp_path: Path) -> None:
    playbook = tmp_path / "release.yml"
    task = {"c50k.stack.python_release": {"source": "app", "cache_dir": str(tmp_path / "cache")}}
    tasks = [
        {**task, "check_mode": True, "register": "told"},
        {**task, "register": "made"},
        {**task, "register": "again"},
        {"ansible.builtin.copy": {"content": "{{ [told, made, again] | to_json }}", "dest": str(tmp_path / "results")}},
        {"c50k.stack.python_release": {"source": "app", "architecture": "vax"}},
    ]
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    run = subprocess.run([ansible, playbook], capture_output=True, text=True, cwd="/", timeout=120, check=False)
    told, made, again = json.loads((tmp_path / "results").read_text())
    assert [result["changed"] for result in (told, made, again)] == [True, True, False]
    assert told["id"] == made["id"] == again["id"] == described(source).id
    assert told["archive"] == again["archive"] == str(archive_path(tmp_path / "cache", described(source)))
    assert (
        run.returncode == 2
        and "value of architecture must be one of: x86_64, aarch64, got: vax" in run.stdout + run.stderr
    )
