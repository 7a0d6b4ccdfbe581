# SPDX-License-Identifier: GPL-3.0-or-later
"""A Linode with user data: cloud-init asks the metadata service for it and does what it says, once."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import SECRETS, Fleet, account, host_of

SERVICE = "http://169.254.169.254/v1"
USER_DATA = """#cloud-config
users: [{name: guest}]
write_files: [{path: /root/secret, content: hunter2, permissions: '0600'}]
runcmd: [echo run >> /root/runs]
"""


@pytest.fixture(scope="module")
def linode() -> Iterator[dict[str, Any]]:
    body = {
        **{"label": "mol-metadata", "type": "g6-nanode-1", "region": "de-fra-2", "image": "linode/debian13"},
        "authorized_keys": [(SECRETS / "id_ed25519.pub").read_text()],
        "metadata": {"user_data": base64.b64encode(USER_DATA.encode()).decode()},
    }
    made = account("POST", "/linode/instances", **body)
    yield made
    account("DELETE", f"/linode/instances/{made['id']}")


@pytest.fixture(scope="module")
def host(linode: dict[str, Any]) -> Any:
    return host_of(linode)


def ask(host: Any, path: str, headers: str = "") -> str:
    """Return what the metadata service tells a host, by curl."""
    token = host.check_output(f"curl -fsS -X PUT -H 'Metadata-Token-Expiry-Seconds: 60' {headers} {SERVICE}/token")
    return str(host.check_output(f"curl -fsS -H 'Metadata-Token: {token}' {headers} {SERVICE}/{path}"))


def test_user_data_is_honoured_on_the_first_boot_alone(linode: dict[str, Any], host: Any) -> None:
    assert host.check_output("cloud-init status --wait").strip("\n.") == "status: done"
    assert host.check_output("cloud-id") == "akamai"
    secret = host.file("/root/secret")
    assert (secret.content_string, secret.mode) == ("hunter2", 0o600)
    assert host.user("guest").exists
    assert host.check_output("hostname") == "mol-metadata"
    assert host.check_output("ls /etc/ssh/ssh_host_*.pub") == "/etc/ssh/ssh_host_ed25519_key.pub"
    key = host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub")

    account("POST", f"/linode/instances/{linode['id']}/reboot")
    host_of(linode)
    assert host.check_output("cloud-init status --wait").strip("\n.") == "status: done"
    assert host.check_output("cat /root/runs") == "run"
    assert host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub") == key
    assert host.check_output("systemctl is-system-running --wait") == "running"


def test_a_host_reads_its_own_metadata_and_no_others(fleet: Fleet, linode: dict[str, Any], host: Any) -> None:
    assert base64.b64decode(ask(host, "user-data")).decode() == USER_DATA
    assert f"id: {linode['id']}" in ask(host, "instance").splitlines()
    other = fleet.tier("redis")[0]
    pretence = f"-H 'X-Forwarded-For: {linode['ipv4'][0]}' -H 'Host: {linode['ipv4'][0]}'"
    assert ask(other, "user-data", pretence) == ""
    assert f"label: {fleet.names('redis')[0]}" in ask(other, "instance", pretence).splitlines()


def test_cloud_init_is_off_where_there_is_no_user_data(fleet: Fleet) -> None:
    for name, host in fleet:
        assert host.check_output("cloud-init status") == "status: disabled", name
