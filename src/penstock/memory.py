"""How much memory is to be had: the machine's, or what its container allows."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 62


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Bytes that can be taken without swapping.

    A container's limit counts where there is one (cgroup v2). Where the system does not say what is
    free, half of all memory is taken for it.
    """
    return min(_free(meminfo), _allowed(cgroup))


def _free(meminfo: Path) -> int:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) << 10 if found else _physical() // 2


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 8 << 30


def _allowed(cgroup: Path) -> int:
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return _UNLIMITED
    return _UNLIMITED if limit == "max" else max(int(limit) - used + _cached(cgroup), 0)


def _cached(cgroup: Path) -> int:
    """File pages that count as used and are given up on demand: reading a model fills them."""
    try:
        stat = (cgroup / "memory.stat").read_text()
    except OSError:
        return 0
    found = re.search(r"^inactive_file (\d+)$", stat, re.MULTILINE)
    return int(found[1]) if found else 0
