"""The etcd role's rules and templates."""

import pytest
from render import default_differences, problems, render, value

GIVEN = {
    "inventory_hostname": "demo-etcd-1",
    "etcd_listen_address": "10.0.6.10",
    "etcd_members": [{"name": f"demo-etcd-{number}", "address": f"10.0.6.{number + 9}"} for number in (1, 2, 3)],
}


def test_defaults_and_specification_agree() -> None:
    assert default_differences("etcd") == set()


@pytest.mark.parametrize("given", [{}, {"etcd_members": GIVEN["etcd_members"][:1]}])
def test_good_variables_pass(given: dict) -> None:
    assert problems("etcd", **GIVEN | given) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"etcd_members": GIVEN["etcd_members"][:2]}, "etcd_members has 2 hosts (demo-etcd-1, demo-etcd-2)"),
        ({"etcd_members": GIVEN["etcd_members"][1:2]}, "etcd_listen_address is 10.0.6.10"),
        ({"etcd_listen_address": "10.0.6.99"}, "etcd_listen_address is 10.0.6.99"),
        (
            {"etcd_members": [*GIVEN["etcd_members"], *GIVEN["etcd_members"][1:]]},
            "etcd_members names a host twice",
        ),
        ({"etcd_peer_port": 2379}, "etcd_client_port is 2379 and etcd_peer_port 2379"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("etcd", **GIVEN | bad)
    assert named in problem


def test_only_tls_with_certificates_on_both_sides() -> None:
    settings = dict(line.split("=", 1) for line in render("etcd", "etcd.j2", **GIVEN).splitlines() if "=" in line)
    assert all(url.startswith("https://") for name, url in settings.items() if name.endswith("_URLS"))
    assert settings["ETCD_CLIENT_CERT_AUTH"] == settings["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"


def test_a_new_cluster_is_told_all_its_members() -> None:
    assert value("etcd", "__etcd_initial", **GIVEN) == (
        "demo-etcd-1=https://10.0.6.10:2380,demo-etcd-2=https://10.0.6.11:2380,demo-etcd-3=https://10.0.6.12:2380"
    )


def test_metrics_are_given_where_they_are_asked_for_alone() -> None:
    assert "METRICS" not in render("etcd", "etcd.j2", **GIVEN)
    given = render("etcd", "etcd.j2", **GIVEN, etcd_metrics_address="10.0.6.10")
    assert "ETCD_LISTEN_METRICS_URLS=http://10.0.6.10:2381" in given
