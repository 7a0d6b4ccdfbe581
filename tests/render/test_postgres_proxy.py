"""The postgres_proxy role's template, which HAProxy itself reads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from render import default_differences, render

MEMBERS = [{"name": f"demo-postgres-{number}", "address": f"10.0.3.{number + 9}"} for number in (1, 2, 3)]
CLUSTERS = [
    {"name": "main", "port": 5000, "members": MEMBERS},
    {"name": "second", "port": 5002, "members": [{"name": "demo-postgres-4", "address": "10.0.3.13"}]},
]


def config(tmp_path: Path) -> str:
    return render(
        "postgres_proxy",
        "haproxy.cfg.j2",
        postgres_proxy_clusters=CLUSTERS,
        # a CA of its own is not what is looked at here
        postgres_proxy_ca_file="@system-ca",
    )


def test_defaults_and_specification_agree() -> None:
    assert default_differences("postgres_proxy") == set()


def test_haproxy_takes_it(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").write_text(config(tmp_path))
    checked = subprocess.run(
        ["haproxy", "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("cluster", "port", "members"), [("main", 5000, 3), ("second", 5002, 1)])
def test_each_cluster_has_its_ports_on_loopback(tmp_path: Path, cluster: str, port: int, members: int) -> None:
    text = config(tmp_path)
    primary = text[text.index(f"listen {cluster}_primary") :]
    assert primary.split("\n")[1].strip() == f"bind 127.0.0.1:{port}"
    read = text[text.index(f"frontend {cluster}_read") :]
    assert read.split("\n")[1].strip() == f"bind 127.0.0.1:{port + 1}"
    replicas = text[text.index(f"\nbackend {cluster}_replicas") + 1 :].split("\n\n", maxsplit=1)[0]
    assert replicas.count("    server ") == members


def test_a_demoted_primary_loses_its_connections_and_a_lagging_replica_its_reads(tmp_path: Path) -> None:
    text = config(tmp_path)
    (default,) = (line for line in text.splitlines() if "default-server" in line)
    assert "on-marked-down shutdown-sessions" in default and "verify required" in default
    assert "uri /replica?lag=16777216&replication_state=streaming" in text


def test_all_clusters_together_may_have_what_each_may(tmp_path: Path) -> None:
    assert "maxconn 8000" in config(tmp_path).partition("defaults")[0]
