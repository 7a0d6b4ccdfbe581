# SPDX-License-Identifier: GPL-3.0-or-later
"""The Linode API v4, served from the lab's own state."""

from lab.api.app import Lab, create_app

__all__ = ["Lab", "create_app"]
