"""The logs role's rules and templates, as HAProxy reads them."""

from __future__ import annotations

import re
from configparser import ConfigParser
from typing import Any

import pytest
from render import ROLES, default_differences, load, problems, render, templar, value

SENDERS = {"demo-app_server-1": "10.0.2.10", "demo-redis-1": "10.0.4.10"}
GIVEN: dict[str, Any] = {"logs_part": "receiver", "logs_receiver_address": "10.0.10.10", "logs_senders": SENDERS}


def settings(text: str) -> ConfigParser:
    """What systemd reads, where no name comes twice."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_defaults_and_specification_agree() -> None:
    assert default_differences("logs") == set()


def stack(name: str, **known: Any) -> Any:
    """What the variable *name* of the role stack comes to, where the inventory says what is *known*."""
    variables = load("stack", "vars/main.yml")
    return templar("logs", **(variables | known)).template(variables[name])


@pytest.mark.parametrize(
    ("logs", "port"), [({}, False), ({"fleet_logs": "local"}, False), ({"fleet_logs": "monitoring"}, True)]
)
def test_the_port_is_open_where_logs_are_shipped(logs: dict[str, str], port: bool) -> None:
    assert ("logs_port" in stack("fleet_ports", **logs)["monitoring"]) is port


@pytest.mark.parametrize(("host", "part"), [("m-1", "sender"), ("m-2", "receiver"), ("r-1", "sender")])
def test_the_first_monitoring_host_that_stays_receives_from_all_others(host: str, part: str) -> None:
    hosts = {"monitoring": ["m-1", "m-2", "m-3"], "redis": ["r-1"]}
    addresses = {
        name: {"stack_address": f"10.0.0.{number}"} for number, name in enumerate(["m-1", "m-2", "m-3", "r-1"])
    }
    known = {"inventory_hostname": host, "stack_hosts": hosts, "stack_leaving": ["m-1"], "hostvars": addresses}
    assert stack("logs_part", **known) == part
    assert stack("logs_receiver_address", **known) == "10.0.0.1"
    # one that leaves has something to say to its end
    assert stack("logs_senders", **known) == {"m-1": "10.0.0.0", "m-3": "10.0.0.2", "r-1": "10.0.0.3"}


def test_good_variables_pass() -> None:
    for part in ("receiver", "sender"):
        assert problems("logs", **GIVEN | {"logs_part": part}) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"logs_part": "both"}, "logs_part is 'both'"),
        ({"logs_receiver_address": "0.0.0.0"}, 'logs_receiver_address is "0.0.0.0"'),
        ({"logs_receiver_address": "monitoring"}, 'logs_receiver_address is "monitoring"'),
        ({"logs_port": 514}, "logs_port is 514"),
        ({"logs_senders": {"a b": "10.0.2.10"}}, "logs_senders has"),
        ({"logs_senders": {"a": "fd00::1"}}, "logs_senders has"),
        ({"logs_max_use": "50%"}, "logs_max_use is '50%'"),
        ({"logs_max_file_size": "1"}, "logs_max_file_size '1'"),
    ],
)
def test_bad_variable_is_named(bad: dict[str, Any], named: str) -> None:
    (problem,) = problems("logs", **GIVEN | bad)
    assert named in problem


def test_every_template_is_placed() -> None:
    files = value("logs", "__logs_files", **GIVEN)
    placed = {f"{file['src']}.j2" for part in files.values() for file in part}
    assert placed == {path.name for path in (ROLES / "logs/templates").iterdir()}


def test_a_sender_proves_itself_to_the_receiver_alone() -> None:
    upload = settings(render("logs", "journal-upload.conf.j2", **GIVEN))["Upload"]
    assert upload["URL"] == "https://10.0.10.10:19532"
    assert upload["TrustedCertificateFile"] == "/etc/ssl/fleet/ca.crt"
    assert upload["ServerKeyFile"] == "/etc/ssl/fleet/host.key"
    unit = settings(render("logs", "journal-upload.service.j2", **GIVEN))
    assert unit["Unit"]["StartLimitIntervalSec"] == "0" and unit["Service"]["Restart"] == "always"
    assert unit["Service"]["SupplementaryGroups"] == "ssl-cert"


def test_a_certificate_is_wanted_and_names_whose_journal_it_is() -> None:
    text = render("logs", "journal-proxy.cfg.j2", **GIVEN)
    (bind,) = re.findall(r"^ +bind (.*)$", text, re.MULTILINE)
    assert bind.startswith("10.0.10.10:19532 ssl ") and "ca-file /etc/ssl/fleet/ca.crt verify required" in bind
    assert dict(re.findall(r"^backend (\S+)\n +server remote 127.0.0.1:19532 source (\S+)$", text, re.MULTILINE)) == {
        "demo-app_server-1": "127.0.2.10",
        "demo-redis-1": "127.0.4.10",
    }
    assert "default_backend" not in text


def test_behind_the_certificates_it_listens_on_the_loopback_alone() -> None:
    socket = render("logs", "journal-remote.socket.j2", **GIVEN)
    assert socket.endswith("[Socket]\nListenStream=\nListenStream=127.0.0.1:19532\n")
    unit = render("logs", "journal-remote.service.j2", **GIVEN)
    assert "ExecStart=\nExecStart=/usr/lib/systemd/systemd-journal-remote --listen-http=-3 " in unit


def test_what_is_received_is_bounded() -> None:
    remote = settings(render("logs", "journal-remote.conf.j2", **GIVEN, logs_max_use="64M"))["Remote"]
    assert dict(remote) == {"MaxUse": "64M", "KeepFree": "1G", "MaxFileSize": "16M"}
