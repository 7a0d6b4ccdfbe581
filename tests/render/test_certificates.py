"""The certificates role's rules."""

import pytest
from render import default_differences, problems

GIVEN = {
    "certificates_ca_dir": "/secrets",
    "certificates_usages": ["serverAuth"],
    "certificates_subject_alt_names": ["DNS:demo-etcd-1", "IP:10.0.6.10"],
}


def test_defaults_and_specification_agree() -> None:
    assert default_differences("certificates") == set()


@pytest.mark.parametrize("given", [{}, {"certificates_usages": [], "certificates_subject_alt_names": []}])
def test_good_variables_pass(given: dict) -> None:
    assert problems("certificates", **GIVEN | given) == []


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"certificates_subject_alt_names": []}, "certificates_subject_alt_names is empty"),
        ({"certificates_subject_alt_names": ["demo-etcd-1"]}, "certificates_subject_alt_names has ['demo-etcd-1']"),
        ({"certificates_renew_days": 90}, "certificates_renew_days is 90"),
        ({"certificates_renew_days": 0}, "certificates_renew_days is 0"),
    ],
)
def test_bad_variable_is_named(bad: dict, named: str) -> None:
    (problem,) = problems("certificates", **GIVEN | bad)
    assert named in problem
