#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install the Debian packages that a host lacks
version_added: 1.0.0
description:
  - Asks C(dpkg-query), and calls M(ansible.builtin.apt) only for a host that lacks one of the packages. So a run that
    has nothing to install does without opening the package lists, which takes most of the time of such a task.
  - It installs without recommended packages, refreshes lists that are older than a day, and waits for the lock of
    another package manager for at most five minutes.
author:
  - c50k.stack contributors (@c50k)
options:
  name:
    description:
      - The packages, as C(apt-get install) takes them. Whether a package with a version is installed, apt is asked.
    type: list
    elements: str
    required: true
  start:
    description: Whether services of the packages may start as they are installed, with Debian's own configuration.
    type: bool
    default: true
attributes:
  action:
    description: It is an action plugin, and asks the host.
    support: full
  check_mode:
    description: In check mode the packages that are missing are told, and nothing else; apt is not asked for them.
    support: full
  diff_mode:
    description: In check mode the missing packages are shown.
    support: partial
seealso:
  - module: ansible.builtin.apt
"""

EXAMPLES = r"""
- name: Install the engine, to be started when it is configured
  c50k.stack.packages:
    name: [haproxy, socat]
    start: false
"""

RETURN = r"""
missing:
  description: The packages that the host lacked.
  returned: success
  type: list
  elements: str
  sample: [socat]
"""
