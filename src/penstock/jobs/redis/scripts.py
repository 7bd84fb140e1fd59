"""The Lua scripts, each with what all of them share before it."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from glide import Script

_LUA = files(__package__) / "lua"
_ALWAYS = "#!lua flags=allow-oom\n"
"""Where Redis is full, too: what was accepted goes on to its end, and is forgotten after that."""
_WITH_ROOM = ""

_COMMON = (_LUA / "common.lua").read_text(encoding="utf-8")
_TABS = _COMMON + (_LUA / "use.lua").read_text(encoding="utf-8")


def _load(name: str, before: str = _COMMON, *, flags: str = _ALWAYS) -> Script:
    code = flags + before + (_LUA / f"{name}.lua").read_text(encoding="utf-8")
    return Script(code)  # type: ignore[no-untyped-call]  # glide has it untyped


ACKNOWLEDGE: Final = _load("acknowledge")
APPEND: Final = _load("append")
BEAT: Final = _load("beat")
CLAIM: Final = _load("claim")
CREATE: Final = _load("create", flags=_WITH_ROOM)
DELETE: Final = _load("delete")
GIVE_BACK: Final = _load("give_back")
FIND: Final = _load("find")
FIND_KEY: Final = _load("find_key")
LEAVE: Final = _load("leave")
LISTED: Final = _load("listed")
LOOK: Final = _load("look")
MISSING: Final = _load("missing")
REFUSE: Final = _load("refuse")
ROOM: Final = _load("room", flags=_WITH_ROOM)
SWEEP: Final = _load("sweep")
SYNC: Final = _load("sync")
TAKE: Final = _load("take")

TAB_CLOSE: Final = _load("tab_close", _TABS)
TAB_EXTEND: Final = _load("tab_extend", _TABS)
TAB_HOLD: Final = _load("tab_hold", _TABS)
TAB_OPEN: Final = _load("tab_open", _TABS)
TAB_USED: Final = _load("tab_used", _TABS)
