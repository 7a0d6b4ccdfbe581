# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the machine's own commands (ip, nft, podman) and say what failed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping


class CommandError(Exception):
    """A command ended with a code other than 0; its text is the command and what it printed."""


async def run(*argv: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return what ``argv`` prints; raise CommandError when it fails."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    out, err = await process.communicate(None if stdin is None else stdin.encode())
    if process.returncode:
        raise CommandError(f"`{' '.join(argv)}` ended with {process.returncode}: {(err or out).decode().strip()}")
    return out.decode()
