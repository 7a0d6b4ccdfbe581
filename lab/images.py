# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the images of the lab's hosts, once for each content of ``lab/image``."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from lab.podman import podman
from lab.shell import CommandError, run

IMAGE_DIR = Path(__file__).parent / "image"
ROOTFS = "localhost/c50k-lab/rootfs"
DEBIAN = "localhost/c50k-lab/debian13"
GOLDEN = "localhost/c50k-lab/debian13-golden"
CONTENT = "c50k.content"

SUITE = "trixie"
HOST_PACKAGES = (
    "systemd,systemd-sysv,dbus,python3,python3-apt,sudo,iproute2,iputils-ping,nftables,"
    "ca-certificates,openssh-server,procps,curl,cloud-init"
)
# What the roles install; tests/lab/test_images.py holds the two together.
GOLDEN_PACKAGES = (
    "etcd-client etcd-server haproxy htop memcached nginx openssl patroni pgbackrest pgbouncer postgresql-17 "
    "prometheus prometheus-alertmanager prometheus-nginx-exporter prometheus-node-exporter "
    "prometheus-postgres-exporter prometheus-redis-exporter python3-cryptography python3-etcd python3-psycopg2 "
    "redis-sentinel redis-server socat ssl-cert sysstat systemd-journal-remote"
)


def content(*texts: str) -> str:
    """Return a digest of what an image is built from."""
    digest = hashlib.sha256()
    for path in sorted(IMAGE_DIR.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()[:16]


async def build() -> AsyncIterator[str]:
    """Build what is missing or out of date; yield a line before each step."""
    base = content(SUITE, HOST_PACKAGES)
    if await _content_of(DEBIAN) != base:
        yield "Debian 13, from packages (about 25 s)"
        with tempfile.TemporaryDirectory(prefix="c50k-image-") as folder:
            tar = f"{folder}/rootfs.tar"
            await run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={HOST_PACKAGES}", SUITE, tar)
            await podman("import", "--quiet", tar, ROOTFS)
        await podman(
            *("build", "--quiet", "--network", "none"),
            *("--label", f"{CONTENT}={base}", "--tag", DEBIAN, str(IMAGE_DIR)),
        )
    golden = content(base, GOLDEN_PACKAGES)
    if await _content_of(GOLDEN) != golden:
        yield "the golden image: the stack's packages installed (about 40 s)"
        await podman(
            *("build", "--quiet", "--network", "host", "--label", f"{CONTENT}={golden}", "--tag", GOLDEN),
            *("--build-arg", f"PACKAGES={GOLDEN_PACKAGES}"),
            *("--file", str(IMAGE_DIR / "Containerfile.golden"), str(IMAGE_DIR)),
        )


async def remove() -> None:
    """Remove the lab's images."""
    for image in (GOLDEN, DEBIAN, ROOTFS):
        await podman("rmi", "--force", "--ignore", image)


async def _content_of(image: str) -> str:
    try:
        return (await podman("image", "inspect", "--format", f'{{{{index .Labels "{CONTENT}"}}}}', image)).strip()
    except CommandError:
        return ""


async def _main() -> None:
    if sys.argv[1:] == ["remove"]:
        await remove()
    else:
        async for step in build():
            print(step, flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
