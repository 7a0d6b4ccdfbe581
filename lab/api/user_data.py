# SPDX-License-Identifier: GPL-3.0-or-later
"""User data: what cloud-init of a Linode does at its first boot, as its owner gives it with the image."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from lab.api import images
from lab.api.wire import Problems
from lab.models import Json

if TYPE_CHECKING:
    from lab.api.app import Lab

FIELDS = {"metadata": dict}
MAX_SIZE = 16_384  # bytes, decoded


def read(lab: Lab, given: Json, problems: Problems, before: str = "") -> str:
    """Check a request's user data and return it, in base64; where it says nothing of that, what was before stays."""
    user_data = given.get("metadata", {}).get("user_data", before)
    if not user_data:
        return ""
    image = images.find(lab, given.get("image", ""))
    if image is None or "cloud-init" not in image["capabilities"]:
        problems.add("metadata.user_data", "This image has no cloud-init, which user data needs")
    try:
        size = len(base64.b64decode(user_data, validate=True))
    except (TypeError, ValueError):
        problems.add("metadata.user_data", "user_data must be a base64 encoded string")
    else:
        if size > MAX_SIZE:
            problems.add("metadata.user_data", f"decoded user_data must not exceed {MAX_SIZE} bytes")
    return str(user_data)
