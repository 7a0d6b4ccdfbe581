#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_release
short_description: Make a release archive of a Python application on the control node
version_added: 1.0.0
description:
  - Makes one tar.gz with the application's source in C(app/), and its locked dependencies for the Python of the hosts
    in C(site-packages/), so that no host needs to reach a package registry.
  - It runs on the control node, whatever host the task is for, with the C(pip) of the Python that runs Ansible.
  - The same source, lock and target make the same archive, byte for byte, with the same id. What is made already is not
    made again, and dependencies are fetched only when the lock or the target changes.
author:
  - c50k.stack contributors (@c50k)
options:
  source:
    description: The folder of the application. A relative path starts at the playbook's folder.
    type: path
    required: true
  requirements:
    description:
      - The lock, relative to O(source). Each line is NAME==VERSION with at least one C(--hash), and may have a marker.
      - Markers are compared with the Python of the hosts, not with that of the control node.
    type: str
    default: requirements.txt
  python_version:
    description: The Python of the hosts.
    type: str
    default: "3.13"
  architecture:
    description: The processors of the hosts.
    type: str
    choices: [x86_64, aarch64]
    default: x86_64
  platforms:
    description:
      - The platform tags of the wheels that the hosts can use.
      - Unless given, all those that Debian 13 can use on O(architecture).
    type: list
    elements: str
  exclude:
    description:
      - Shell patterns of names, or of paths relative to O(source), to leave out.
      - Unless given, hidden files such as C(.git) and C(.env) are left out, and so are tests and compiled files.
    type: list
    elements: str
    default: [".*", __pycache__, "*.pyc", tests]
  cache_dir:
    description: The folder for archives and fetched dependencies. It may be removed at any time between runs.
    type: path
    default: ~/.cache/c50k
attributes:
  action:
    description: It is an action plugin, and runs on the control node.
    support: full
  check_mode:
    description: In check mode the id is told, and whether the archive would be made.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Make the release
  c50k.stack.python_release:
    source: "{{ playbook_dir }}/../app"
    python_version: "3.13"
  register: release
  run_once: true

- name: Deploy it
  ansible.builtin.include_role:
    name: c50k.stack.app_server
  vars:
    app_server_release:
      id: "{{ release.id }}"
      archive: "{{ release.archive }}"
"""

RETURN = r"""
id:
  description: Twelve hexadecimal digits that stand for the content of the release.
  returned: success
  type: str
  sample: 3f6c0b9a41de
archive:
  description: The path of the archive on the control node. In check mode it may not exist yet.
  returned: success
  type: str
  sample: /home/me/.cache/c50k/releases/3f6c0b9a41de.tar.gz
"""
