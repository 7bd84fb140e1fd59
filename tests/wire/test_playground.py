"""The playground in Chromium: what it shows is what the server did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from penstock.access.keys import Key, digest_of, write_keys

from .pages import PHONE, Playground, chromium, missing
from .servers import Server

STORY = "Tell me a story about a dog."
FIXED: dict[str, Any] = {"temperature": 0, "max_tokens": 160}
KEY = "sk-penstock-of-a-page"
CREDITS = 4
AHEAD = 3
"""lookahead + 2."""
Open = Callable[..., Playground]

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(missing() is not None, reason=f"{missing()} is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Open]:
    """A function that opens a tab. At the end no tab may have complained of anything."""
    pages: list[Playground] = []

    def open_one(**options: object) -> Playground:
        pages.append(Playground(browser, server, **options))
        return pages[-1]

    yield open_one
    for playground in pages:
        playground.context.close()
    assert [playground.complaints for playground in pages] == [[]] * len(pages)


def answer_to(server: Server, *said: str) -> str:
    """What the server says without a browser."""
    roles = ["user", "assistant"] * len(said)
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    told = server.ask(
        "POST", "/v1/chat/completions", {**FIXED, "messages": messages, "top_p": 0.95}
    )
    text: str = told.json["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("wire", ["socket", "sse", "job"])
def test_an_answer_streams_and_the_next_one_knows_it(
    open_page: Open, server: Server, wire: str
) -> None:
    first = answer_to(server, STORY)
    second = answer_to(server, STORY, first, "And then?")
    page = open_page()
    with server.endings() as ended:
        page.ask(STORY, wire=wire, **FIXED)
        page.wait_end()
        assert page.answer == first
        page.ask("And then?", wire=wire, **FIXED)
        page.page.locator(".turn.assistant").nth(1).wait_for()
        page.wait_end()
        assert page.answer == second
    assert "first after" in page.footer
    assert sum(ended.values()) == 2
    assert set(ended) <= {"stop", "length"}


@pytest.mark.parametrize(
    ("wire", "reason"), [("socket", "client"), ("sse", "disconnect"), ("job", "client")]
)
def test_stop_stops_and_is_counted(open_page: Open, server: Server, wire: str, reason: str) -> None:
    page = open_page()
    page.stop_after(10)
    page.page.route("**/v1/chat/completions", go_on_and_on)
    with server.endings() as ended:
        page.ask(STORY, wire=wire, **FIXED)
        page.wait_end()
    assert ended == {reason: 1}
    assert "stopped" in page.footer
    assert answer_to(server, STORY).startswith(page.answer)
    assert page.page.locator("#send").is_visible()


def test_a_new_chat_begins_behind_a_shut_valve(open_page: Open, server: Server) -> None:
    page = open_page()
    page.set_pace(60)
    with server.endings() as ended:
        page.ask(STORY, **FIXED)
        page.wait_text(10)
        page.turn_wheel()
        page.wait_state("parked")
        page.page.click("#fresh")
        assert page.page.locator("#hello").is_visible()
        page.page.locator("#send").wait_for()
        page.set_pace(100)
        page.ask("And a cat?", **FIXED)
        page.wait_end()
    assert page.answer == answer_to(server, "And a cat?")
    assert page.page.locator(".turn").count() == 2
    assert ended["client"] + ended["disconnect"] == 1
    assert sum(ended.values()) == 2


def test_the_focus_stays_where_it_is_when_an_answer_ends(open_page: Open) -> None:
    page = open_page()
    page.ask(STORY, **FIXED)
    page.page.focus("#wheel")
    page.wait_end()
    assert page.page.evaluate("document.activeElement.id") == "wheel"


def go_on_and_on(route: Route) -> None:
    """A plain stream knows no pace: this one is more than what buffers on its way will hold.

    So it cannot be over before a page has left that is slow to be drawn.
    """
    said = json.loads(route.request.post_data or "{}")
    asked = {**said, "max_tokens": 900, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}
    route.continue_(post_data=json.dumps(asked))


def test_stop_works_behind_a_shut_valve(open_page: Open, server: Server) -> None:
    page = open_page()
    page.set_pace(60)
    with server.endings() as ended:
        page.ask(STORY, **FIXED)
        page.wait_text(10)
        page.turn_wheel()
        page.wait_state("parked")
        page.page.click("#stop")
        page.wait_end()
    assert ended == {"client": 1}


def test_a_shut_valve_parks_its_stream_and_no_other(open_page: Open, server: Server) -> None:
    page = open_page()
    for _ in range(2):
        page.page.click("#more")
    page.set_pace(70)
    page.ask(STORY, **FIXED)
    page.wait_text(20)
    page.turn_wheel()
    page.wait_state("parked")
    page.wait("document.getElementById('computed').textContent > 0")
    mine = (page.read_by(0), page.answer, page.number("computed"))
    assert AHEAD <= page.number("ahead") <= AHEAD + CREDITS
    for lane in (1, 2):
        page.wait_read(lane, page.read_by(lane) + 30)
    assert (page.read_by(0), page.answer, page.number("computed")) == mine
    page.turn_wheel()
    page.set_pace(100)
    page.wait_end()
    assert page.answer == answer_to(server, STORY)


def test_a_job_is_read_on_after_a_reload(open_page: Open, server: Server) -> None:
    page = open_page()
    page.set_pace(55)
    with server.endings() as ended:
        page.ask(STORY, wire="job", **FIXED)
        page.wait_text(30)
        page.page.reload()
        page.wait_end()
    expected = answer_to(server, STORY)
    assert page.answer == expected
    assert page.page.locator(".turn.user").text_content() == STORY
    assert sum(ended.values()) == 1
    assert set(ended) <= {"stop", "length"}
    page.page.reload()
    page.wait_end()
    assert page.answer == expected


def test_a_key_within_the_handshake_ends_that_as_well(open_page: Open, server: Server) -> None:
    page = open_page()
    page.page.click("#tab-complete")
    page.wait_offer()
    field = page.page.locator("#code")
    for _ in range(3):
        asked = page.number("asked")
        # In one task of the page, so that the socket cannot have opened meanwhile.
        page.page.evaluate(
            """() => {
              const plain = WebSocket;
              window.WebSocket = class extends plain {
                constructor(...given) {
                  super(...given);
                  queueMicrotask(() => document.getElementById('code').dispatchEvent(
                    new KeyboardEvent('keydown', { key: 'Escape' })));
                  window.WebSocket = plain;
                }
              };
            }"""
        )
        field.press_sequentially("x")
        page.wait("Number(document.getElementById('asked').textContent) > asked", asked=asked)
    assert page.number("aborted") == 3


def test_a_key_ends_the_completion_before_it(open_page: Open, server: Server) -> None:
    before = server.gauge("decode_rows")
    page = open_page()
    with server.endings() as ended:
        page.page.click("#tab-complete")
        for letter in " find a tree":
            page.wait("document.querySelector('#ghost i').textContent.length > 5")
            page.page.keyboard.type(letter)
        page.wait_offer()
    asked, aborted, saved = (page.number(name) for name in ("asked", "aborted", "saved"))
    assert asked == sum(ended.values())
    assert ended["disconnect"] >= 1
    assert ended["disconnect"] <= aborted
    # Each step makes a token of its one row, and each prompt that was read makes one.
    made = asked + server.gauge("decode_rows") - before
    never = asked * 160 - made
    assert never - (CREDITS + AHEAD + 1) * aborted <= saved <= never
    assert saved > 0


def test_a_suggestion_can_be_taken_from_the_keyboard(open_page: Open, server: Server) -> None:
    page = open_page()
    page.page.click("#tab-complete")
    typed = page.page.input_value("#code")
    page.wait_offer()
    offer = page.page.locator("#ghost i").text_content() or ""
    assert offer
    page.page.keyboard.press("Control+Enter")
    assert page.page.input_value("#code") == typed + offer
    page.page.keyboard.press("Escape")


def test_a_closed_tab_frees_the_slots_of_all_its_streams(open_page: Open, server: Server) -> None:
    page = open_page()
    for _ in range(2):
        page.page.click("#more")
    page.set_pace(50)
    with server.endings() as ended:
        page.ask(STORY, **FIXED)
        for lane in range(3):
            page.wait_read(lane, 6)
        page.page.close()
    assert ended == {"disconnect": 3}


def test_a_closed_tab_frees_the_slot_of_a_plain_stream(open_page: Open, server: Server) -> None:
    page = open_page()
    page.page.route("**/v1/chat/completions", go_on_and_on)
    with server.endings() as ended:
        with page.page.expect_response("**/v1/chat/completions"):
            page.ask(STORY, wire="sse")
        page.page.close()
    assert ended == {"disconnect": 1}


def test_a_full_server_is_said_in_words(
    browser: Browser, start_server: Callable[..., Server]
) -> None:
    server = start_server("--slots=1", "--queue=0", "--max-streams=1")
    page = Playground(browser, server)
    page.page.click("#more")
    page.wait_read(1, 4)
    page.ask(STORY)
    page.wait_end()
    assert "Try again in" in page.footer
    assert page.page.locator(".turn.failed").count() == 1
    assert page.complaints == []
    page.context.close()


def test_a_valve_that_is_shut_for_too_long_is_told_so(
    browser: Browser, start_server: Callable[..., Server]
) -> None:
    server = start_server("--stall-deadline-s=1")
    page = Playground(browser, server)
    page.set_pace(60)
    page.ask(STORY, **FIXED)
    page.wait_text(10)
    page.turn_wheel()
    page.wait_state("ended")
    page.turn_wheel()
    page.wait_end()
    assert "a reader that had stopped" in page.footer
    assert server.metrics()["penstock_requests_failed_total:stalled"] == 1
    assert page.complaints == []
    page.context.close()


def test_a_server_with_keys_is_used_with_one(
    browser: Browser, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    write_keys(tmp_path / "keys.json", [Key(name="ann", digest=digest_of(KEY))])
    server = start_server(f"--keys={tmp_path / 'keys.json'}")
    page = Playground(browser, server)
    page.page.locator("#key-dialog[open]").wait_for()
    page.page.fill("#key-field", KEY)
    page.page.click("#key-dialog .send")
    for count, wire in enumerate(("socket", "sse", "job"), start=1):
        page.wait("document.querySelectorAll('#model option').length === 1")
        page.ask(STORY, wire=wire, **FIXED | {"max_tokens": 16})
        page.wait(f"document.querySelectorAll('.turn.assistant').length === {count}")
        page.wait_end()
        assert "16 tokens" in page.footer, page.footer
        page.page.reload()  # this tab keeps the key
    assert page.page.locator("#key-dialog[open]").count() == 0
    other = page.context.new_page()
    other.goto(server.url)
    other.locator("#key-dialog[open]").wait_for()
    # The browser tells of what it was refused before it had the key, and of nothing else.
    assert page.complaints
    assert all("401" in complaint for complaint in page.complaints)
    page.context.close()


def test_a_key_goes_with_every_request(open_page: Open, server: Server) -> None:
    page = open_page()
    told: dict[str, str] = {}
    devtools = page.context.new_cdp_session(page.page)
    devtools.send("Network.enable")
    devtools.on(
        "Network.webSocketWillSendHandshakeRequest",
        lambda event: told.update(event["request"]["headers"]),
    )
    page.page.click("#key")
    page.page.fill("#key-field", "sk-penstock-key")
    with page.page.expect_request("**/v1/models") as asked:
        page.page.click("#key-dialog .send")
    assert asked.value.header_value("authorization") == "Bearer sk-penstock-key"
    page.ask(STORY, **FIXED)
    page.wait_end()
    assert told["Sec-WebSocket-Protocol"] == "penstock.v1, penstock.key.c2stcGVuc3RvY2sta2V5"


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_nothing_serious(open_page: Open, server: Server, look: str) -> None:
    page = open_page(
        bypass_csp=True,  # axe looks at style sheets in ways that a page need not
        color_scheme="dark" if look == "dark" else "light",
        **(PHONE if look == "phone" else {}),
    )
    if look == "light":
        assert page.violations() == []
    page.page.click("#more")
    page.set_pace(60)
    page.page.click(".sampling summary")
    page.ask(STORY, **FIXED)
    page.wait_text(10)
    page.turn_wheel()
    page.wait_state("parked")
    assert page.violations() == []
    page.page.click("#tab-complete")
    page.wait_offer()
    assert page.violations() == []
    if look == "light":
        page.page.click("#key")
        assert page.violations() == []


def test_all_of_it_can_be_reached_from_the_keyboard(open_page: Open) -> None:
    page = open_page()
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(30):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.id || document.activeElement.name"))
    wanted = {"tab-chat", "model", "key", "theme", "log", "say", "wire", "fresh", "send"}
    assert reached >= wanted | {"wheel", "pace", "more"}
    page.page.focus("#tab-chat")
    page.page.keyboard.press("ArrowRight")
    assert page.page.locator("#code").is_visible()
    page.page.focus("#wheel")
    page.page.keyboard.press("Enter")
    assert page.page.locator("#pace").get_attribute("aria-valuetext") == "shut"
    page.page.focus("#pace")
    page.page.keyboard.press("End")
    assert page.page.locator("#pace").get_attribute("aria-valuetext") == "open"


def test_a_theme_is_remembered(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    light = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.page.click("#theme")
    dark = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.page.reload()
    assert page.page.evaluate("getComputedStyle(document.body).backgroundColor") == dark != light


def test_nothing_is_wider_than_a_phone(open_page: Open) -> None:
    page = open_page(**{**PHONE, "viewport": {"width": 320, "height": 640}})
    for tab in ("#tab-chat", "#tab-complete"):
        page.page.click(tab)
        assert page.page.evaluate("document.documentElement.scrollWidth") == 320


def test_a_message_that_is_markup_stays_text(open_page: Open, server: Server) -> None:
    page = open_page()
    said = "<img src=x onerror=alert(1)> & <b>bold</b>"
    page.ask(said, **FIXED)
    page.wait_end()
    assert page.page.locator(".turn.user").text_content() == said
    assert json.loads(page.page.evaluate("sessionStorage['penstock.chat'] ?? 'null'")) is not None
