"""Files of a hub's repository: fetched, gone on with after a program that was killed, and checked.

huggingface_hub 1.x and 2.x goes on within one program only: what a killed one had fetched it
fetches again (huggingface/huggingface_hub#4228).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20
SHA256_CHARACTERS = 64
"""A large file's etag. A small one's is the SHA-1 of git's object, in 40."""


class DownloadError(Exception):
    """What came is not what the hub has; the message names the file."""


def download(url: str, target: Path, name: str) -> None:
    """Have the file at `url` in `target`. Nothing is fetched of one that is there and the same.

    A part of it is kept beside it under a name that tells its version. Raises `DownloadError`, and
    what huggingface_hub raises.
    """
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    there = get_hf_file_metadata(url, retry_on_errors=True)
    if there.etag is None:
        raise DownloadError(f"{name}: the hub does not say which version it has")
    if target.is_file() and is_same(target, there.etag):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{there.etag[:12]}.part")
    # Unbuffered: what was fetched is there whenever this ends.
    with part.open("ab", buffering=0) as file:
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=there.size,
            displayed_filename=name,
        )
    if not is_same(part, there.etag):
        part.unlink()
        raise DownloadError(f"{name} came damaged; fetch it again")
    part.replace(target)


def is_same(file: Path, etag: str) -> bool:
    """Whether a file's content is what its etag says."""
    digest: Any
    if len(etag) == SHA256_CHARACTERS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as data:
        while read := data.read(READ_BYTES):
            digest.update(read)
    same: bool = digest.hexdigest() == etag
    return same
