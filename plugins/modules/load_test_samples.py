#!/usr/bin/python
# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: load_test_samples
short_description: Follow a load test on its hosts, and tell how it goes
version_added: 1.0.0
description:
  - Waits until systemd services on the host have ended, and meanwhile brings what they write to a file there, line by
    line, to the control node.
  - One host, the one with O(tell), prints a line every few seconds with the sum of all hosts; users or requests in
    flight, requests a second, failures, and the times within which half and 99 % of the last requests on the most used
    route were answered.
  - It fails with the end of the services' log when one of them fails, or goes on for too long. What fails here is the
    load generator; requests that fail are counted.
author:
  - c50k.stack contributors (@c50k)
options:
  units:
    description: The services. Without any the host has no part in the test, and there is nothing to wait for.
    type: list
    elements: str
    required: true
  path:
    description: The file on the host that they write samples to, lines of JSON. It may come later.
    type: path
    required: true
  dest:
    description: The folder on the control node for the samples, the same for all hosts. Each has a file, C(HOST.jsonl).
    type: path
    required: true
  timeout:
    description: Seconds after which a service that has not ended is a failure.
    type: int
    required: true
  interval:
    description: Seconds between two looks at the host.
    type: int
    default: 5
  tell:
    description: What the line calls the number that is active, such as V(users). Without it this host prints nothing.
    type: str
attributes:
  action:
    description: It is an action plugin, and asks the host over its connection.
    support: full
  check_mode:
    description: In check mode nothing runs that could be followed.
    support: none
  diff_mode:
    description: There is no difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Follow the load
  c50k.stack.load_test_samples:
    units: [load-test]
    path: /srv/load_generator/samples
    dest: "{{ samples }}"
    timeout: 120
    tell: "{{ 'users' if inventory_hostname == ansible_play_hosts[0] else omit }}"
"""

RETURN = r""" # """
