"""The pgbackrest role's rules and templates, and what its program decides."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.c50k.stack.tests.unit.programs import load_program
from render import ROLES, default_differences, problems, render

PHRASE = "sixteen-characters"
S3 = {"endpoint": "s3.example.com", "bucket": "b", "region": "r", "access_key": "k", "secret_key": "s3cret"}
MEMBER = {
    "pgbackrest_part": "member",
    "pgbackrest_repository_host": "demo-backup-1",
    "pgbackrest_listen_address": "10.0.3.10",
}
REPOSITORY = {
    "pgbackrest_part": "repository",
    "pgbackrest_passphrase": PHRASE,
    "pgbackrest_members": ["demo-postgres-1", "demo-postgres-2"],
    "pgbackrest_clients": ["demo-postgres-1", "demo-drill-1"],
    "pgbackrest_listen_address": "10.0.8.10",
}
ON_S3 = {"pgbackrest_part": "member", "pgbackrest_s3": S3, "pgbackrest_passphrase": PHRASE}
GIVEN = {"member": MEMBER, "repository": REPOSITORY, "object storage": ON_S3}


def configuration(**variables: Any) -> list[str]:
    return render("pgbackrest", "pgbackrest.conf.j2", __pgbackrest_queue_bytes=1 << 30, **variables).splitlines()


@pytest.fixture(scope="module")
def program() -> Any:
    return load_program(ROLES / "pgbackrest/files/stanza.py")


def test_defaults_and_specification_agree() -> None:
    assert default_differences("pgbackrest") == set()


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_good_variables_pass(given: dict[str, Any]) -> None:
    assert problems("pgbackrest", **given) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (MEMBER | {"pgbackrest_repository_host": ""}, 'pgbackrest_repository_host is "" and pgbackrest_s3 is empty'),
        (MEMBER | {"pgbackrest_listen_address": ""}, 'pgbackrest_listen_address is ""'),
        (MEMBER | {"pgbackrest_queue_bytes": 5}, "pgbackrest_queue_bytes is 5"),
        (REPOSITORY | {"pgbackrest_passphrase": "short"}, "pgbackrest_passphrase is too short"),
        (REPOSITORY | {"pgbackrest_members": []}, "pgbackrest_members is empty"),
        (REPOSITORY | {"pgbackrest_clients": ["a=b"]}, "pgbackrest_clients ['a=b']"),
        (REPOSITORY | {"pgbackrest_retention_full": 0}, "pgbackrest_retention_full is 0"),
        (ON_S3 | {"pgbackrest_s3": {"endpoint": "e", "bucket": "b"}}, "pgbackrest_s3 lacks access_key, region, secret"),
        (ON_S3 | {"pgbackrest_s3": S3 | {"bucket": "b\nrepo1-path=/"}}, "A value of pgbackrest_s3 is empty"),
        (ON_S3 | {"pgbackrest_stanza": "Main"}, 'pgbackrest_stanza is "Main"'),
    ],
)
def test_bad_variable_is_named(bad: dict[str, Any], named: str) -> None:
    (problem,) = problems("pgbackrest", **bad)
    assert named in problem


def test_the_pass_phrase_is_where_the_repository_is_alone() -> None:
    assert not [line for line in configuration(**MEMBER, pgbackrest_passphrase=PHRASE) if PHRASE in line]
    for given in (REPOSITORY, ON_S3):
        assert {"repo1-cipher-type=aes-256-cbc", f"repo1-cipher-pass={PHRASE}"} <= set(configuration(**given))


def test_a_member_bounds_what_waits() -> None:
    for given in (MEMBER, ON_S3):
        assert {"archive-async=y", "archive-push-queue-max=1073741824"} <= set(configuration(**given))


def test_a_repository_names_its_members_and_who_may_ask() -> None:
    lines = configuration(**REPOSITORY)
    assert {"pg1-host=demo-postgres-1", "pg2-host=demo-postgres-2"} <= set(lines)
    assert [line for line in lines if line.startswith("tls-server-auth")] == [
        "tls-server-auth=demo-postgres-1=main",
        "tls-server-auth=demo-drill-1=main",
    ]


def test_object_storage_is_checked_and_nobody_listens() -> None:
    lines = configuration(**ON_S3)
    assert "repo1-storage-verify-tls=y" in lines
    assert not [line for line in lines if line.startswith(("tls-server", "repo1-host", "repo1-storage-ca-file"))]
    assert "repo1-storage-ca-file=/ca.crt" in configuration(**ON_S3 | {"pgbackrest_s3": S3 | {"ca_file": "/ca.crt"}})


def test_only_object_storage_has_the_replica_do_nothing() -> None:
    assert "ExecCondition=" in render("pgbackrest", "pgbackrest-backup@.service.j2", **ON_S3)
    assert "ExecCondition=" not in render("pgbackrest", "pgbackrest-backup@.service.j2", **REPOSITORY)


def test_a_backup_wants_what_the_last_of_its_kind_took(program: Any) -> None:
    def made(kind: str, stored: int) -> dict[str, Any]:
        return {"type": kind, "info": {"repository": {"delta": stored}}}

    backups = [made("full", 800), made("diff", 40), made("full", 1000)]
    assert program.wanted(backups, "full", 0) == 1250
    assert program.wanted(backups, "diff", 0) == 50
    assert program.wanted(backups, "incr", 0) == 1250
    assert program.wanted([], "full", 5000) == 5000


def test_a_backup_that_does_not_fit_is_refused_with_the_sum(program: Any) -> None:
    assert program.room(free=1050, size=1000, bytes_wanted=1000) == ""
    said = program.room(free=1049, size=1000, bytes_wanted=1000)
    assert (
        "/var/lib/pgbackrest on " in said
        and "1049 bytes free of 1000" in said
        and "about 1000, and 50 stay free" in said
    )


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("[029]: unable to load info file '/x/backup.info'", "bring back the one in backup_passphrase"),
        ("[049]: unable to connect to 'a:8432': [111] Connection refused", "It does not answer"),
        ("[051]: version '17' do not match stanza", "restore.yml"),
        ("[103]: HTTP request failed with 404", "see that the bucket of postgres_backup_s3 exists"),
        ("[050]: unable to acquire lock", "Another backup is under way"),
        ("[039]: something else", "It says: [039]: something else"),
    ],
)
def test_what_pgbackrest_says_comes_with_what_to_do(program: Any, said: str, advice: str) -> None:
    assert advice in program.taught(said) and said in program.taught(said)


def test_what_cannot_be_decrypted_is_no_json_and_is_taught(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = """[{"backup": [], "message": "unable to load info file '/x': \x02\x80\x1c"}]"""
    monkeypatch.setattr(program, "pgbackrest", lambda *_: said)
    with pytest.raises(SystemExit, match="bring back the one in backup_passphrase") as refused:
        program.read("main")
    assert str(refused.value).isprintable()
