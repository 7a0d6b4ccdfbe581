# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that change a Linode account have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_token:
    description:
      - The personal access token. It has to be allowed to read and write Linodes and VPCs.
      - If not set, the environment variable E(LINODE_TOKEN) is used.
    type: str
  api_url:
    description:
      - Where the Linode API v4 is, with its version.
      - If not set, the environment variable E(LINODE_API_URL) is used.
    type: str
    default: https://api.linode.com/v4
  api_timeout:
    description: Seconds to wait for each answer of the API.
    type: int
    default: 30
  ca_path:
    description:
      - A file of certificate authorities to trust instead of the system's.
      - If not set, the environment variable E(LINODE_CA) is used.
    type: path
requirements:
  - linode_api4 >= 5.48
notes:
  - The module talks to the API from the host it runs on; run it on C(localhost).
  - A request is repeated after a passing failure, for a limited time. Nothing is made twice, even if an answer is lost.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the account.
    support: full
  diff_mode:
    description: Returns what is changed (or would be, in check mode), when in diff mode.
    support: full
  action_group:
    description: Use C(group/c50k.stack.linode) in C(module_defaults) to set the API's options once.
    support: full
    membership:
      - c50k.stack.linode
"""
