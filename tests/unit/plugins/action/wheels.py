"""Wheels made by hand, for a pip that asks no registry."""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


def make_wheel(
    folder: Path,
    name: str,
    tag: str,
    text: str,
    version: str = "1.0",
    headers: str = "",
    files: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A wheel with one module that prints *text*, one script, and *files* (content by path); its hash in a lock."""
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": f"def main():\n    print({text!r})\n",
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{headers}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = ""
    for path, content in contents.items():
        checksum = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={checksum},{len(content)}\n"
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**contents, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            member = zipfile.ZipInfo(path)
            member.external_attr = (0o100755 if ".data/scripts/" in path else 0o100644) << 16
            archive.writestr(member, content)
    return f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
