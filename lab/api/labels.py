# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of names: Linodes, firewalls, placement groups, VPCs, subnets, volumes, NodeBalancers, tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from lab.api.wire import Problems
from lab.models import Tag
from lab.store import Store

TAG_LENGTH = range(3, 51)


def check_linode_label(label: str, others: Iterable[str], problems: Problems) -> None:
    """Note what is wrong with a Linode's label."""
    check_label(label, 64, "linodes", others, problems)


def check_label(label: str, longest: int, among: str, others: Iterable[str], problems: Problems) -> None:
    """Note what is wrong with a label of the common kind, that has to be unique ``among`` the account's."""
    if not 3 <= len(label) <= longest:
        problems.add("label", f"Label must be between 3 and {longest} characters")
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]", label):
        problems.add(
            "label",
            "Label must begin and end with a letter or number; it may contain letters, numbers and any of - _ .",
        )
    elif re.search(r"--|__|\.\.", label):
        problems.add("label", "Label cannot have two dashes, underscores or periods in a row")
    elif label in others:
        problems.add("label", f"Label must be unique among your {among}")


def check_plain_label(label: Any, lengths: range, others: Iterable[str], among: str, problems: Problems) -> None:
    """Note what is wrong with the label of something: its length, or that it is not unique among ``others``."""
    if not isinstance(label, str):
        problems.add("label", "label is required" if label is None else "Must be a string")
    elif len(label) not in lengths:
        problems.add("label", f"Length must be {lengths[0]}-{lengths[-1]} characters")
    elif label in others:
        problems.add("label", f"Label must be unique among {among}")


def check_vpc_label(label: Any, name: str, others: Iterable[str], among: str, problems: Problems) -> str:
    """Return the label of a VPC or subnet; note what is wrong with it."""
    if not isinstance(label, str):
        problems.add(name, "label is required" if label is None else "Must be a string")
        return ""
    if not 1 <= len(label) <= 64:
        problems.add(name, "Length must be 1-64 characters")
    elif not re.fullmatch(r"[A-Za-z0-9-]+", label):
        # Linode's own words, though an underscore is refused and a dash is not
        problems.add(name, "Must only use ASCII letters, numbers, and underscores")
    elif label in others:
        problems.add(name, f"Label must be unique among {among}")
    return label


def check_balancer_label(label: str, others: Iterable[str], problems: Problems) -> None:
    """Note what is wrong with a NodeBalancer's label."""
    if not 3 <= len(label) <= 32:
        problems.add("label", "Label must be between 3 and 32 characters")
    elif not re.fullmatch(r"[A-Za-z0-9_-]+", label):
        problems.add("label", "Label may only contain letters, numbers, dashes and underscores")
    elif label in others:
        problems.add("label", "Label must be unique among your NodeBalancers")


def check_node_label(label: str, problems: Problems) -> None:
    """Note what is wrong with the label of a NodeBalancer's node."""
    if not label:
        problems.add("label", "label is required")
    elif not 3 <= len(label) <= 32:
        problems.add("label", "Label must be between 3 and 32 characters")
    elif not re.fullmatch(r"[A-Za-z0-9._-]+", label):
        problems.add("label", "Label may only contain letters, numbers, periods, dashes and underscores")


def check_tag(label: Any, name: str, problems: Problems) -> str:
    """Return a tag's label; note what is wrong with it."""
    if not isinstance(label, str):
        problems.add(name, f"{name} is required" if label is None else "Must be a string")
        return ""
    if len(label) not in TAG_LENGTH:
        problems.add(name, f"Length must be {TAG_LENGTH[0]}-{TAG_LENGTH[-1]} characters")
    return label


def check_tags(labels: list[Any], problems: Problems) -> list[str]:
    """Return the tags of a request, each once, in order."""
    return list(dict.fromkeys(check_tag(label, "tags", problems) for label in labels))


def new_tags(store: Store, labels: list[str]) -> list[Tag]:
    """Return records for those labels that are new to the account."""
    known = {tag.label for tag in store.all(Tag)}
    return [Tag(store.next_id(), label) for label in labels if label not in known]
