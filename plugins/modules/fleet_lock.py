#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock
short_description: Let only one run at a time work on a fleet
version_added: 1.0.0
description:
  - Locks a file on the control node until the run ends, in whatever way it ends, and fails at once when another run has
    locked it, saying whose that is.
  - A run that locks a fleet again keeps its lock.
  - It runs on the control node, whatever host the task is for.
author:
  - c50k.stack contributors (@c50k)
options:
  path:
    description:
      - The file to lock. It is there only while it is locked. A missing folder is made, for its owner alone.
    type: path
    required: true
  hosts:
    description:
      - Hosts of the fleet, always in the same order. The first of three that can be reached by SSH keeps a second lock,
        against runs on other control nodes. It ends at most 30 seconds after this run, also when the network fails.
      - Without a host that can be reached, as on a first run, runs on this control node alone are kept out.
    type: list
    elements: str
    default: []
attributes:
  action:
    description: It is an action plugin, and runs on the control node.
    support: full
  check_mode:
    description: A run in check mode locks as well, as what it tells would not hold beside another run.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Let nobody else work on this fleet
  c50k.stack.fleet_lock:
    path: "{{ fleet_secrets_dir }}/lock"
    hosts: "{{ groups['fleet'] | sort }}"
  run_once: true
"""

RETURN = r"""
owner:
  description: Whose lock it is, this run's or, on failure, the other's.
  returned: always
  type: dict
  contains:
    user:
      description: The user.
      type: str
      returned: always
      sample: me
    host:
      description: The control node.
      type: str
      returned: always
      sample: laptop
    pid:
      description: The process that the lock ends with.
      type: int
      returned: always
      sample: 4711
    playbook:
      description: What the run was told to play.
      type: str
      returned: always
      sample: playbooks/site.yml
    since:
      description: When it was locked.
      type: str
      returned: always
      sample: "2026-03-01T12:00:00+01:00"
"""
