"""Writes the pictures of docs/img: the playground on a desk, on a phone, by day and by night.

    python docs/make_screenshots.py

Needs what the Chromium tests need: see `_tools` in the justfile.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.wire.pages import PHONE, Playground, chromium  # noqa: E402
from tests.wire.servers import Server  # noqa: E402

FOLDER = ROOT / "docs" / "img"
STORY = "Tell me a story about a little boat."
KNOBS = {"temperature": 0.6, "seed": 3}
MOST_BYTES = 200_000
DESK = {"width": 1240, "height": 880}

HAND = PHONE | {"device_scale_factor": 1.5}


def shut_in_mid_sentence(page: Playground, *, neighbours: int, pace: int, characters: int) -> None:
    """Neighbours run, and the valve is shut over a half-told story."""
    for _ in range(neighbours):
        page.page.click("#more")
    page.set_pace(pace)
    page.ask(STORY, **KNOBS)
    page.wait_text(characters)
    page.turn_wheel()
    page.wait_state("parked")
    for lane in range(1, neighbours + 1):
        page.wait_read(lane, 60)


def complete(page: Playground) -> None:
    """A few keys, each of which ends a request."""
    page.page.click("#tab-complete")
    for letter in " sail":
        page.wait("document.querySelector('#ghost i').textContent.length > 24")
        page.page.keyboard.type(letter)
    page.wait("document.querySelector('#ghost i').textContent.length > 180")
    page.page.keyboard.press("Shift")


def shoot(page: Playground, name: str, *, whole: bool = False) -> None:
    path = FOLDER / f"{name}.png"
    page.page.screenshot(path=path, full_page=whole)
    page.context.close()
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{path} has {size} bytes, too many for a repository"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(Path(folder) / "log")
        try:
            desk = Playground(browser, server, color_scheme="light", viewport=DESK)
            shut_in_mid_sentence(desk, neighbours=3, pace=70, characters=330)
            shoot(desk, "playground")
            night = Playground(browser, server, color_scheme="dark", viewport=DESK)
            shut_in_mid_sentence(night, neighbours=2, pace=70, characters=330)
            night.turn_wheel()
            night.set_pace(100)
            night.wait_text(560)
            shoot(night, "playground-dark")
            phone = Playground(browser, server, color_scheme="light", **HAND)
            shut_in_mid_sentence(phone, neighbours=2, pace=70, characters=120)
            shoot(phone, "playground-phone", whole=True)
            typing = Playground(browser, server, color_scheme="light", viewport=DESK)
            complete(typing)
            shoot(typing, "playground-complete")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
