"""The playground as a person uses it: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from .browsers import TOOLS
from .servers import PATIENCE_S, Server

AXE = TOOLS / "node_modules" / "axe-core" / "axe.min.js"
WIDE = {"width": 1360, "height": 900}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SERIOUS = {"serious", "critical"}


def missing() -> str | None:
    """What is not installed; `just test` installs it."""
    if shutil.which("chromium") is None:
        return "chromium"
    return None if AXE.is_file() else "the npm package axe-core, in .tools"


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Playground:
    """One tab on the playground. What the browser complains of is in `complaints`."""

    def __init__(self, browser: Browser, server: Server, **options: Any) -> None:  # noqa: ANN401
        self.context: BrowserContext = browser.new_context(**{"viewport": WIDE, **options})
        self.context.set_default_timeout(1000 * PATIENCE_S)
        self.complaints: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(server.url)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def ask(self, text: str, *, wire: str = "socket", **knobs: float) -> None:
        """Send a message; `knobs` are sampling controls, by their names."""
        self.page.locator(f"input[name=wire][value={wire}]").check(force=True)
        for name, value in knobs.items():
            self.page.locator(f"#sampling input[name={name}]").evaluate(
                "(knob, value) => { knob.value = value; knob.dispatchEvent(new Event('input')); }",
                str(value),
            )
        self.page.fill("#say", text)
        self.page.keyboard.press("Enter")

    def stop_after(self, characters: int) -> None:
        """Press Stop once so much of the next answer is shown: within the page, not after it."""
        self.page.evaluate(
            """(characters) => new MutationObserver(() => {
                 const text = document.querySelector('.turn.live p')?.textContent ?? '';
                 if (text.length >= characters) document.getElementById('stop').click();
               }).observe(document.getElementById('log'), {
                 childList: true, subtree: true, characterData: true })""",
            characters,
        )

    def set_pace(self, position: int) -> None:
        """Where the valve's slider stands: 0 is shut, 100 open."""
        self.page.locator("#pace").evaluate(
            "(pace, at) => { pace.value = at; pace.dispatchEvent(new Event('input')); }",
            str(position),
        )

    def turn_wheel(self) -> None:
        self.page.click("#wheel")

    @property
    def answer(self) -> str:
        return self.page.locator(".turn.assistant p").last.text_content() or ""

    @property
    def footer(self) -> str:
        return self.page.locator(".turn.assistant footer").last.text_content() or ""

    def number(self, name: str) -> int:
        return int(self.page.locator(f"#{name}").text_content() or "")

    def read_by(self, lane: int) -> int:
        """Events that a lane has read so far: 0 is yours, the neighbours follow."""
        told = self.page.locator(".lane").nth(lane).get_attribute("data-read")
        return int(told or 0)

    def wait(self, condition: str, **given: object) -> None:
        """Until a JavaScript expression over `given` holds."""
        names = ", ".join(given)
        self.page.wait_for_function(f"({{{names}}}) => {condition}", arg=given, polling=20)

    def wait_read(self, lane: int, count: int) -> None:
        self.wait(
            "Number(document.querySelectorAll('.lane')[lane].dataset.read) >= count",
            lane=lane,
            count=count,
        )

    def wait_offer(self) -> None:
        """Until a suggestion is whole."""
        self.wait("document.getElementById('offer').textContent !== ''")

    def wait_text(self, characters: int) -> None:
        self.wait(
            "(document.querySelector('.turn.assistant:last-child p')?.textContent.length ?? 0) > n",
            n=characters,
        )

    def wait_end(self) -> None:
        self.wait("document.querySelector('.turn.assistant:last-child footer')?.textContent !== ''")

    def wait_state(self, state: str) -> None:
        self.page.locator(f".lane.you[data-state={state}]").wait_for()

    def violations(self) -> list[str]:
        """What axe-core finds to be serious, and where."""
        self.page.evaluate(AXE.read_text())
        told = self.page.evaluate("axe.run()")
        assert len(told["passes"]) > 15, "axe has looked at nothing"
        return [
            f"{each['id']}: {[node['target'] for node in each['nodes']]}"
            for each in told["violations"]
            if each["impact"] in SERIOUS
        ]
