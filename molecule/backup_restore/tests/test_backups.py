# SPDX-License-Identifier: GPL-3.0-or-later
"""What was written is in the repository, and comes back, from a host and from object storage. One story, in order."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible_collections.c50k.stack.plugins.module_utils.report import age, moment
from botocore.config import Config
from conftest import CLIENTS, SECRETS, Fleet, eventually, play

CLIENTS_ADDRESS = "198.51.100.251"
REPOSITORY = "/var/lib/pgbackrest"
DRILL = "restore_drill-main.json"
# The repository on a disk of so many MiB more than it has, and back.
ON_A_SMALL_DISK = f"""set -e; systemctl stop pgbackrest; mv {REPOSITORY} {REPOSITORY}.own; mkdir -m 750 {REPOSITORY}
mount -t tmpfs -o size=$(($(du -sm {REPOSITORY}.own | cut -f1) + 3))m,mode=750 tmpfs {REPOSITORY}
cp -a {REPOSITORY}.own/. {REPOSITORY}/; chown postgres: {REPOSITORY}; systemctl start pgbackrest"""
ON_ITS_OWN_DISK = f"""set -e; systemctl stop pgbackrest; cp -a {REPOSITORY}/. {REPOSITORY}.own/; umount {REPOSITORY}
rmdir {REPOSITORY}; mv {REPOSITORY}.own {REPOSITORY}; rm -f {REPOSITORY}/filler; systemctl start pgbackrest"""
# TLS before the server that speaks S3.
FRONT = f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen s3
  bind {CLIENTS_ADDRESS}:443 ssl crt {{pair}}
  server moto {CLIENTS_ADDRESS}:5000
"""
# What begins like this was encrypted with a pass phrase.
ENCRYPTED = b"Salted__"


def sql(host: Any, query: str) -> str:
    return str(host.check_output("runuser -u postgres -- psql -XqAtc %s app", query))


def write(host: Any, what: str) -> None:
    sql(host, f"INSERT INTO written VALUES ('{what}')")


def written(host: Any) -> set[str]:
    return set(sql(host, "SELECT what FROM written").splitlines())


def switch(host: Any, files: int = 1) -> None:
    """Fill so many files of WAL."""
    for _ in range(files):
        sql(host, "INSERT INTO filler SELECT; SELECT pg_switch_wal()")


def last_archived(host: Any) -> str:
    return sql(host, "SELECT last_archived_wal FROM pg_stat_archiver")


def info(host: Any) -> dict[str, Any]:
    (found,) = json.loads(host.check_output("runuser -u postgres -- pgbackrest --stanza=main --output=json info"))
    return dict(found)


def played(playbook: str, **variables: Any) -> str:
    """What the run that succeeds says, on one line."""
    run = play(playbook, **variables)
    assert run.returncode == 0, run.stdout[-6000:]
    return " ".join(run.stdout.split())


def refused(playbook: str, **variables: Any) -> str:
    """What the run that fails says, on one line."""
    run = play(playbook, **variables)
    assert run.returncode != 0, run.stdout[-6000:]
    return " ".join(run.stdout.split())


def drilled(reports: Path, **variables: Any) -> dict[str, Any]:
    played("restore_drill", stack_reports=str(reports), **variables)
    return dict(json.loads((reports / DRILL).read_text()))


def streams(host: Any) -> bool:
    return (
        host.run("runuser -u postgres -- psql -XAtc 'SELECT status FROM pg_stat_wal_receiver'").stdout.strip()
        == "streaming"
    )


@pytest.fixture(scope="module")
def first(fleet: Fleet) -> Any:
    host = fleet.tier("postgres")[0]
    sql(host, "DROP TABLE IF EXISTS written, filler; CREATE TABLE written (what text); CREATE TABLE filler ()")
    return host


@pytest.fixture(scope="module")
def second(fleet: Fleet) -> Any:
    return fleet.tier("postgres")[1]


@pytest.fixture(scope="module")
def repository(fleet: Fleet) -> Any:
    return fleet.tier("backup")[0]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


def test_a_backup_is_made_and_encrypted(first: Any, repository: Any) -> None:
    write(first, "before the backup")
    said = played("backup", backup_type="full")
    backup = info(repository)["backup"][-1]
    assert backup["type"] == "full" and f"{backup['label']} (full): " in said
    begin = f"find {REPOSITORY} -type f -exec head -qc {len(ENCRYPTED)} {{}} + | fold -w {len(ENCRYPTED)} | sort -u"
    assert repository.check_output(begin).encode() == ENCRYPTED


def test_timers_make_backups_where_the_repository_is(fleet: Fleet, repository: Any) -> None:
    timers = repository.check_output("systemctl list-timers --no-legend 'pgbackrest-backup@*'")
    assert "pgbackrest-backup@full.timer" in timers and "pgbackrest-backup@diff.timer" in timers
    before = len(info(repository)["backup"])
    repository.check_output("systemctl start pgbackrest-backup@diff")
    assert len(info(repository)["backup"]) == before + 1
    assert set(fleet.states().values()) == {"running"}


def test_only_the_hosts_of_the_database_reach_the_repository(fleet: Fleet, repository: Any) -> None:
    address = fleet.hostvars[fleet.names("backup")[0]]["stack_address"]
    reach = f"timeout 2 bash -c '</dev/tcp/{address}/8432'"
    reached = {name: host.run(reach).rc == 0 for name, host in fleet}
    assert {name for name, open_ in reached.items() if open_} == {
        name for tier in ("postgres", "drill", "backup") for name in fleet.names(tier)
    }


def test_a_restore_onto_a_running_primary_is_refused(fleet: Fleet, first: Any) -> None:
    said = refused("restore", target="latest")
    assert f"{fleet.names('postgres')[0]} runs as primary" in said
    assert f"-e restore_replaces={fleet.names('postgres')[0]}" in said
    assert "before the backup" in written(first)


def test_a_moment_that_no_backup_reaches_is_refused(fleet: Fleet, first: Any) -> None:
    said = refused("restore", target="2001-01-01 00:00:00+00", restore_replaces=fleet.names("postgres")[0])
    assert "target is 2001-01-01 00:00:00+00, and the oldest backup there is ended at " in said
    assert "before the backup" in written(first)


def test_the_cluster_goes_back_to_a_moment_between_two_writes(fleet: Fleet, first: Any, second: Any) -> None:
    write(first, "before the moment")
    time.sleep(0.1)
    moment = sql(first, "SELECT clock_timestamp()")
    time.sleep(0.1)
    write(first, "after the moment")
    said = played("restore", target=moment, restore_replaces=fleet.names("postgres")[0])
    assert "What it had before is in /var/lib/postgresql/17/main.replaced" in said
    assert written(first) == {"before the backup", "before the moment"}
    assert streams(second) and written(second) == written(first)
    write(first, "after the restore")
    eventually(lambda: "after the restore" in written(second), 10, "the replica has what is written then")


def test_a_restore_that_cannot_be_leaves_all_as_it_was(fleet: Fleet, first: Any, second: Any) -> None:
    """There is no WAL yet that reaches the moment, and there will be none, as nobody writes."""
    moment = sql(first, "SELECT now()")
    said = refused("restore", target=moment, restore_replaces=fleet.names("postgres")[0])
    assert "Nothing was restored, see above. It runs again, as it was." in said
    assert "after the restore" in written(first)
    eventually(lambda: streams(second), 30, "the replica streams")
    assert first.check_output("ls /var/lib/postgresql/17") == "main\nmain.replaced"


def test_a_lost_disk_comes_back_without_a_word_where_nothing_runs(fleet: Fleet, first: Any, second: Any) -> None:
    write(first, "before the disk is lost")
    file = sql(first, "SELECT pg_walfile_name(pg_current_wal_lsn())")
    switch(first)
    eventually(lambda: last_archived(first) >= file, 60, "the repository has what was written")
    for host in (second, first):
        host.check_output("systemctl stop postgresql@17-main")
    first.check_output("rm -rf /var/lib/postgresql/17/*")
    played("restore", target="latest")
    assert {"after the restore", "before the disk is lost"} <= written(first)
    assert streams(second) and written(second) == written(first)


def test_a_drill_proves_the_backup_and_leaves_nothing(fleet: Fleet, first: Any, repository: Any, reports: Path) -> None:
    write(first, "before the drill")
    switch(first)
    timelines = repository.check_output(f"find {REPOSITORY}/archive -name '*.history'")
    report = drilled(reports)
    assert report["differences"] == [] and report["rows"] >= 2 and report["tables"] >= 2
    assert 0 < report["rpo_seconds"] < 100 and 0 < report["rto_seconds"] < 100
    (drill,) = fleet.tier("drill")
    assert drill.run("pgrep -x postgres").rc == 1
    assert drill.check_output("ls /var/lib/postgresql/17") == ""
    # the drill's server began a timeline of its own, and told nobody
    assert repository.check_output(f"find {REPOSITORY}/archive -name '*.history'") == timelines


def test_the_evidence_page_has_the_age_of_the_backup_and_the_drill(repository: Any, reports: Path) -> None:
    backup = info(repository)["backup"][-1]
    stop = backup["timestamp"]["stop"]
    began = int(time.time())
    said = played("report", stack_reports=str(reports))
    html = (reports / "report.html").read_text()
    row = f"<td>{backup['label']}<small>{moment(stop)}</small></td>"
    assert any(f"{row}<td>{age(now - stop)}</td>" in html for now in range(began, int(time.time()) + 1))
    drill = json.loads((reports / DRILL).read_text())
    assert f"<td>{drill['rpo_seconds']:g} s</td><td>{drill['rto_seconds']:g} s</td>" in html
    assert f"{drill['rows']:,} rows in {drill['tables']} tables, " in html and "all the same" in html
    assert "Missing: No backup" not in said and "Missing: No restore drill" not in said


def test_a_repository_that_is_away_gets_its_wal_later(first: Any, repository: Any) -> None:
    repository.check_output("systemctl stop pgbackrest")
    write(first, "while the repository is away")
    file = sql(first, "SELECT pg_walfile_name(pg_current_wal_lsn())")
    switch(first)
    time.sleep(5)
    assert last_archived(first) < file
    repository.check_output("systemctl start pgbackrest")
    eventually(lambda: last_archived(first) >= file, 150, "the repository has the WAL")


def test_a_full_repository_refuses_backups_and_stops_no_write(first: Any, repository: Any, tmp_path: Path) -> None:
    repository.check_output(ON_A_SMALL_DISK)
    said = refused("backup", backup_type="full")
    assert f"No backup is made: the repository, {REPOSITORY} on mol-backup-backup-1, has " in said
    assert "the backup wants about" in said

    repository.run(f"head -c 1G /dev/zero >{REPOSITORY}/filler")
    since = first.check_output("date +%s")
    for number in range(6):
        write(first, f"while the repository is full {number}")
        switch(first)
    dropped = f"journalctl -u postgresql@17-main --since @{since} -o cat | grep 'dropped WAL file'"
    eventually(lambda: first.run(dropped).rc == 0, 200, "WAL is dropped")
    write(first, "while WAL is dropped")
    said = refused("verify")
    assert "files of WAL, from " in said and "are not in the repository: they were dropped" in said
    assert int(first.check_output("du -sm /var/lib/postgresql/17/main/pg_wal | cut -f1")) < 400

    repository.check_output(ON_ITS_OWN_DISK)
    played("backup", backup_type="diff")
    assert drilled(tmp_path)["differences"] == []


def test_another_pass_phrase_is_refused_and_changes_nothing(first: Any, repository: Any) -> None:
    phrase = SECRETS / "backup_passphrase"
    kept = phrase.read_text()
    phrase.write_text("another-pass-phrase-than-before\n")
    try:
        said = refused("site")
    finally:
        phrase.write_text(kept)
    assert "keeps its /etc/pgbackrest.conf, as the new one is refused" in said
    assert (
        "It cannot be read with this pass phrase, as it was made with another: bring back the one in backup_passphrase"
        in said
    )
    assert "another-pass-phrase" not in said
    assert info(repository)["status"]["code"] == 0


@contextmanager
def object_storage(folder: Path) -> Iterator[str]:
    """A server that speaks S3, at the clients' address, with a certificate of the fleet's CA."""
    key, request, certificate = (folder / f"s3.{kind}" for kind in ("key", "csr", "crt"))
    names = folder / "names"
    names.write_text(f"subjectAltName = IP:{CLIENTS_ADDRESS}, DNS:s3.example.com\n")
    for command in (
        f"req -newkey rsa:2048 -nodes -keyout {key} -out {request} -subj /CN=s3.example.com",
        f"x509 -req -in {request} -CA {SECRETS}/ca.crt -CAkey {SECRETS}/ca.key -out {certificate} -extfile {names}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    pair = folder / "s3.pem"
    pair.write_text(certificate.read_text() + key.read_text())
    # moto alone ends its TLS connections in a way that pgBackRest takes for a fault
    front = folder / "haproxy.cfg"
    front.write_text(FRONT.format(pair=pair))
    inside = ("ip", "netns", "exec", CLIENTS)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # else it takes the first word of its name for a bucket
    environment = {**os.environ, "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    servers = [
        subprocess.Popen([*inside, "moto_server", "-H", CLIENTS_ADDRESS, "-p", "5000"], env=environment, **quiet),
        subprocess.Popen([*inside, "haproxy", "-db", "-f", str(front)], **quiet),
    ]
    try:
        yield "s3.example.com"
    finally:
        for server in servers:
            server.terminate()
            server.wait()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Any]]:
    """What the playbooks are told of the object storage, and a client of it."""
    with object_storage(tmp_path_factory.mktemp("s3")) as endpoint:
        given = {
            "endpoint": endpoint,
            "bucket": "backups",
            "region": "us-east-1",
            "access_key": "key",
            "secret_key": "secret",
        }
        client = boto3.client(
            "s3",
            endpoint_url=f"https://{CLIENTS_ADDRESS}",
            verify=f"{SECRETS}/ca.crt",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 9}),
        )
        client.create_bucket(Bucket="backups")
        yield {"postgres_backup": "s3", "postgres_backup_s3": {**given, "ca_file": "/etc/ssl/fleet/ca.crt"}}, client


def test_object_storage_instead_of_the_host(
    fleet: Fleet, first: Any, second: Any, storage: tuple[dict[str, Any], Any], tmp_path: Path
) -> None:
    variables, client = storage
    played("site", **variables)
    write(first, "in object storage")
    assert "(full): " in played("backup", backup_type="full", **variables)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="backups")
    names = [row["Key"] for page in pages for row in page.get("Contents", [])]
    begins = {client.get_object(Bucket="backups", Key=name, Range="bytes=0-7")["Body"].read() for name in names}
    assert len(names) > 5 and begins == {ENCRYPTED}
    assert drilled(tmp_path, **variables)["differences"] == []
    # the timers are on both members; on the replica there is nothing to do
    before = len(info(first)["backup"])
    for host in (first, second):
        host.check_output("systemctl start pgbackrest-backup@diff")
    assert len(info(first)["backup"]) == before + 1
    assert set(fleet.states().values()) == {"running"}


def test_a_cluster_under_patroni_goes_back_too(
    fleet: Fleet, first: Any, second: Any, storage: tuple[dict[str, Any], Any], tmp_path: Path
) -> None:
    variables = {**storage[0], "postgres_failover": "automatic"}
    played("convert_failover", **variables)
    write(first, "under Patroni")
    moment = sql(first, "SELECT clock_timestamp()")
    time.sleep(0.1)
    write(first, "after the moment")
    name = fleet.names("postgres")[0]
    assert f"-e restore_replaces={name}" in refused("restore", target=moment, **variables)
    played("restore", target=moment, restore_replaces=name, **variables)
    assert "under Patroni" in written(first) and "after the moment" not in written(first)
    eventually(lambda: written(second) == written(first), 30, "the replica has the same")
    assert drilled(tmp_path, **variables)["differences"] == []
