# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may log in to what is deployed: SSH keys, users' keys, a root password."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from lab.api import images
from lab.api.wire import Problems
from lab.models import Json, SshKey

if TYPE_CHECKING:
    from lab.api.app import Lab

FIELDS = {"image": str, "root_pass": str, "authorized_keys": list, "authorized_users": list}
USERNAME = "lab"
SSH_KEY = re.compile(r"(ssh-(?:rsa|ed25519)|ecdsa-sha2-nistp(?:256|384|521)|sk-[\w@.-]+) ([A-Za-z0-9+/=]+)(?: .*)?")
PASSWORD_LENGTH = range(11, 129)


def read(lab: Lab, given: Json, problems: Problems) -> list[str]:
    """Check the image of a request, if it has one, and who may log in to it; return the SSH keys."""
    keys = []
    for number, key in enumerate(given.get("authorized_keys", []), 1):
        if is_ssh_key(key):
            keys.append(key.strip())
        else:
            problems.add("authorized_keys", f"SSH Key {number} is not a public key in OpenSSH's format")
    own = [item.ssh_key for item in lab.store.all(SshKey)]
    for number, user in enumerate(given.get("authorized_users", [])):
        if user != USERNAME or not own:
            reason = "has no SSH keys" if user == USERNAME else "does not exist"
            problems.add(f"authorized_users[{number}]", f"User {user} {reason}")
        keys += own
    if "root_pass" in given:
        check_password(given["root_pass"], "root_pass", problems)
    if "image" in given:
        if images.find(lab, given["image"]) is None:
            problems.add("image", "image is not valid")
        if not any(given.get(name) for name in ("authorized_keys", "authorized_users", "root_pass")):
            problems.add("root_pass", "An image needs one of root_pass, authorized_keys, authorized_users")
    return list(dict.fromkeys(keys))


def check_password(password: str, name: str, problems: Problems) -> None:
    """Note what is wrong with a root password."""
    if len(password) not in PASSWORD_LENGTH:
        problems.add(name, f"Length must be {PASSWORD_LENGTH[0]}-{PASSWORD_LENGTH[-1]} characters")


def is_ssh_key(key: Any) -> bool:
    """Tell whether a value is a public key in OpenSSH's format, of the kind that it says it is."""
    match = SSH_KEY.fullmatch(key.strip()) if isinstance(key, str) else None
    if match is None:
        return False
    try:
        blob = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == match[1].encode()
