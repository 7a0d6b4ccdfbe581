"""docs/load-balancers.md says of each option and engine what the role does."""

import re
from pathlib import Path

import pytest
import yaml
from render import problems, render

PAGE = Path(__file__).parents[2] / "docs" / "load-balancers.md"
TEMPLATES = {"haproxy": "haproxy.cfg.j2", "nginx": "nginx.conf.j2"}
GIVEN = {
    "load_balancer_backends": [{"name": "one", "address": "10.0.2.10"}],
    "load_balancer_maxconn": 9000,
    "load_balancer_open_files": 20000,
    "load_balancer_backend_maxconn": 4000,
}


def rows() -> list[tuple[str, str, str]]:
    """Option, engine, and what the page says of them."""
    found = re.findall(r"^\| .+ \| `(load_balancer_\w+: .+?)` \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    return [(option, engine, said) for option, *both in found for engine, said in zip(TEMPLATES, both, strict=True)]


@pytest.mark.parametrize(("option", "engine", "said"), rows())
def test_the_page_tells_the_truth(option: str, engine: str, said: str) -> None:
    given = {**GIVEN, "load_balancer_engine": engine}
    asked = {**given, **yaml.safe_load(option)}
    refusals = problems("load_balancer", **asked)
    assert bool(refusals) == said.startswith("refused"), refusals
    if not refusals:
        same = render("load_balancer", TEMPLATES[engine], **asked) == render(
            "load_balancer", TEMPLATES[engine], **given
        )
        assert same == (said in ("the default", "is always one"))


def test_every_option_of_the_page_is_there() -> None:
    assert len(rows()) == 2 * 9
