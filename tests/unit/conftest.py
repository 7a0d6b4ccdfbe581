# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collections are imported the way Ansible does it, which has to be said before the first one is imported. No test of a
property fails because the machine is slow."""

from __future__ import annotations

from ansible.plugins.loader import init_plugin_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig
from hypothesis import settings

if AnsibleCollectionConfig.collection_finder is None:
    init_plugin_loader()
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
