"""KV of whole prompt chunks, shared between sequences that begin alike.

A chunk's KV is a function of the tokens up to its end and of where its chunks end, so a copy holds
the very bits that computing it again would give. KV made by decoding is never shared: a step and a
prompt chunk do not round alike. Prompts of different scopes (API keys) never share, since the time
to the first token would tell one client what another has asked.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from penstock.engine.slots import Copy


def chain(scope: str, token_ids: npt.NDArray[np.int64], chunk: int) -> list[bytes]:
    """A digest for each whole chunk of a prompt, of everything up to its end."""
    digests = []
    digest = blake2b(scope.encode(), digest_size=16).digest()
    for end in range(chunk, len(token_ids) + 1, chunk):
        digest = blake2b(digest + token_ids[end - chunk : end].tobytes(), digest_size=16).digest()
        digests.append(digest)
    return digests


class PrefixCache:
    """Copies of chunks by digest, least recently used out first. A budget of 0 switches it off."""

    def __init__(self, budget_bytes: int) -> None:
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._budget_bytes = budget_bytes
        self._chunks: OrderedDict[bytes, Copy] = OrderedDict()

    def __repr__(self) -> str:
        return (
            f"<PrefixCache {len(self._chunks)} chunks, {self.bytes} of {self._budget_bytes} bytes>"
        )

    def wants(self, digest: bytes) -> bool:
        """Whether a copy of this chunk would be new here."""
        return self._budget_bytes > 0 and digest not in self._chunks

    def match(self, digests: list[bytes]) -> list[Copy]:
        """Copies of the longest known beginning, chunk by chunk."""
        found: list[Copy] = []
        for digest in digests:
            copy = self._chunks.get(digest)
            if copy is None:
                break
            self._chunks.move_to_end(digest)
            found.append(copy)
        self.hits += len(found)
        self.misses += len(digests) - len(found)
        return found

    def clear(self) -> None:
        self._chunks.clear()
        self.bytes = self.hits = self.misses = 0

    def put(self, digest: bytes, copy: Copy) -> None:
        if copy.bytes > self._budget_bytes:
            return
        self._chunks[digest] = copy
        self.bytes += copy.bytes
        while self.bytes > self._budget_bytes:
            _, oldest = self._chunks.popitem(last=False)
            self.bytes -= oldest.bytes
