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
  - Makes one tar.gz with the application in C(app/), and its locked dependencies for the Python of the hosts
    in C(site-packages/), so that no host needs to reach a package registry. Programs that a package brings are in
    C(site-packages/bin/); scripts, which begin with the path of a Python, are left out.
  - The application is a folder, a commit of a git repository, or a built wheel.
  - It runs on the control node, whatever host the task is for, with the C(pip) of the Python that runs Ansible.
  - The same files, lock and target make the same archive, byte for byte, with the same id, whether they come from a
    folder or from git. What is made already is not made again, and dependencies are fetched only when the lock or the
    target changes.
  - git keeps a bare mirror in O(cache_dir), so that the next run fetches only what is new. It uses the user's own
    configuration, credential helpers and SSH agent, and asks nothing. A user and password inside an address are kept
    out of messages and argument lists; better is not to have them there (C(git help credentials)).
author:
  - c50k.stack contributors (@c50k)
options:
  source:
    description:
      - The application. A relative path starts at the playbook's folder.
      - A folder; as it is, or as it is in the commit O(version).
      - Or the address of a git repository, such as C(https://git.example.com/team/service.git) or
        C(git@git.example.com:team/service.git). For a folder in it, end the address with C(#subdirectory=PATH).
        Submodules and files in Git LFS are refused, unless O(exclude) leaves them out.
      - Or a wheel, C(NAME.whl), pure or for the hosts' platform. C(app/) then holds what it installs, without scripts,
        so that a file of a package is found by its path there, such as C(service/alembic.ini).
    type: str
    required: true
  version:
    description:
      - What to take from git; a branch, a tag, or a commit. Without it, an address means the repository's C(HEAD), and
        a folder is taken as it is, whether it is in a repository or not.
      - Branches and tags are those of the repository at this moment. Of a folder, what is not committed is not taken.
      - Put a version such as C("1.10") in quotes, or YAML makes a number of it.
    type: str
    default: ""
  requirements:
    description:
      - The lock, relative to the application's folder, or to the folder that the wheel is in. Each line is
        NAME==VERSION with at least one C(--hash), and may have a marker.
      - A wheel does not say which versions it was tested with, so it needs one as well, with all that it requires;
        C(uv export --no-emit-project -o dist/requirements.txt) and
        C(uv pip compile --generate-hashes pyproject.toml -o dist/requirements.txt) make it.
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
      - Of a wheel nothing is left out.
    type: list
    elements: str
    default: [".*", __pycache__, "*.pyc", tests]
  cache_dir:
    description: The folder for archives, mirrors and fetched dependencies. It may be removed at any time between runs.
    type: path
    default: ~/.cache/c50k
attributes:
  action:
    description: It is an action plugin, and runs on the control node.
    support: full
  check_mode:
    description:
      - In check mode the id is told, and whether the archive would be made. The mirror of a repository is brought up to
        date.
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
      origin: "{{ release.origin }}"

- name: Make the release of a tag, from a folder in a repository
  c50k.stack.python_release:
    source: https://git.example.com/team/shop.git#subdirectory=services/cart
    version: v1.2
  run_once: true

- name: Make the release of a wheel, locked by dist/requirements.txt
  c50k.stack.python_release:
    source: "{{ playbook_dir }}/../dist/service-1.2.0-py3-none-any.whl"
  run_once: true
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
origin:
  description: One line for people that says what the release was made from; it is no part of the content.
  returned: success
  type: str
  sample: git service main → 1a2b3c4d5e6f (tag v1.2)
"""
