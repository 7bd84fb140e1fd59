"""The page and its files: who gets it, as what, under which rules; and how far a stream is."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import trio

from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.settings import Settings
from penstock.web.app import App
from penstock.web.playground import FOLDER, TYPES
from tests.asgi import MemoryClient, fetch, post, running
from tests.peers import make_engine, settled

BROWSER = ((b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),)

CONTENT = {path.name: path.read_bytes() for path in FOLDER.iterdir()}


@pytest.fixture
def app(model: Model, tokenizer: Tokenizer) -> App:
    return App(assemble(Settings(slots=4), "default", make_engine(model, slots=4), tokenizer))


def get(app: App, path: str, *headers: tuple[bytes, bytes], method: str = "GET") -> MemoryClient:
    return MemoryClient(app, method, path, headers=headers)


async def test_a_browser_gets_the_page_and_others_what_was_there(app: App) -> None:
    page = await fetch(get(app, "/", *BROWSER))
    assert (page.status, page.headers[b"content-type"]) == (200, b"text/html; charset=utf-8")
    assert page.body == (FOLDER / "index.html").read_bytes()
    assert page.headers[b"vary"] == b"Accept"
    for accept in (b"*/*", b"application/json"):
        other = await fetch(get(app, "/", (b"accept", accept)))
        assert not other.headers[b"content-type"].startswith(b"text/html")


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
async def test_each_file_has_its_type_and_may_do_nothing_it_need_not(app: App, path: Path) -> None:
    client = await fetch(get(app, f"/static/{path.name}"))
    assert (client.status, client.body) == (200, CONTENT[path.name])
    assert client.headers[b"content-type"] == TYPES[path.suffix]
    assert client.headers[b"x-content-type-options"] == b"nosniff"
    rules = client.headers[b"content-security-policy"].split(b"; ")
    policy = dict(rule.split(b" ", 1) for rule in rules)
    assert policy[b"default-src"] == b"'none'"
    assert policy[b"script-src"] == policy[b"style-src"] == policy[b"connect-src"] == b"'self'"


async def test_a_browser_that_has_a_file_is_not_sent_it_again(app: App) -> None:
    first = await fetch(get(app, "/static/penstock.js"))
    assert first.headers[b"cache-control"] == b"no-cache"
    etag = first.headers[b"etag"]
    again = await fetch(get(app, "/static/penstock.js", (b"if-none-match", b'"x", W/' + etag)))
    assert (again.status, again.body, again.headers[b"etag"]) == (304, b"", etag)
    other = await fetch(get(app, "/static/penstock.js", (b"if-none-match", b'"x"')))
    assert other.status == 200


async def test_a_head_has_the_headers_only(app: App) -> None:
    client = await fetch(MemoryClient(app, "HEAD", "/", headers=BROWSER))
    length = str((FOLDER / "index.html").stat().st_size).encode()
    assert (client.status, client.body, client.headers[b"content-length"]) == (200, b"", length)


@pytest.mark.parametrize("path", ["/static/", "/static/../app.py", "/static/no.js", "/static//etc"])
async def test_nothing_else_is_a_file(app: App, path: str) -> None:
    client = await fetch(get(app, path, *BROWSER))
    assert (client.status, client.json["error"]["code"]) == (404, "not_found")


async def test_files_are_not_written_to(app: App) -> None:
    client = await fetch(MemoryClient(app, "POST", "/static/penstock.js", headers=BROWSER))
    assert client.status in (404, 405)


class Page(HTMLParser):
    """What the page refers to, and whatever a strict policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.refused: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._script = tag in ("script", "style")
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.refused.append(f"{tag} {name}")
            elif name in ("src", "href") and value and not value.startswith("#"):
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.refused.append(data)


async def test_the_page_needs_no_other_host_and_nothing_inline(app: App) -> None:
    page = Page()
    page.feed((FOLDER / "index.html").read_text())
    assert page.refused == []
    for link in page.links:
        assert (await fetch(get(app, urljoin("/", link)))).status == 200, link
    for path in FOLDER.glob("*.js"):
        for line in path.read_text().splitlines():
            if line.startswith("import"):
                assert (FOLDER / line.split('"')[1]).is_file(), line
            assert "http://" not in line
            assert "https://" not in line


async def test_who_knows_the_id_of_a_stream_sees_how_far_it_is(app: App) -> None:
    asked = {"prompt": "Once", "stream": True, "max_tokens": 50, "ignore_eos": True}
    reader = post(app, "/v1/completions", asked, reads=4)
    async with running(app), trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        await settled(app.service.default.decoder)
        name = reader.headers[b"x-request-id"].decode()
        told = await look(app, f"id={name}&id=job_0")
        assert set(told["streams"]) == {name}
        sight = told["streams"][name]
        assert sight["state"] == "parked"
        # The bound of the pipeline, and the fifth write is the one that blocks.
        assert 0 < sight["delivered"] < sight["computed"] <= sight["delivered"] + 3
        assert told["decoder"]["lookahead"] == 1
        assert (told["decoder"]["active"], told["decoder"]["parked"]) == (1, 1)
        reader.leave()
    assert (await look(app, f"id={name}"))["streams"] == {}


async def test_a_job_is_delivered_as_far_as_its_furthest_reader(app: App) -> None:
    asked = {"prompt": "Once", "max_tokens": 40, "ignore_eos": True, "window": 12}
    async with running(app), trio.open_nursery() as nursery:
        job_id = (await fetch(post(app, "/v1/jobs", asked))).json["job_id"]
        await settled(app.service.default.decoder)
        unread = (await look(app, f"id={job_id}"))["streams"][job_id]
        assert unread["delivered"] == 0 < unread["computed"]
        readers = [
            MemoryClient(app, "GET", "/v1/stream", query=f"job_id={job_id}", reads=reads)
            for reads in (2, 5)
        ]
        for reader in readers:
            nursery.start_soon(reader.run)
        await settled(app.service.default.decoder)
        read = (await look(app, f"id={job_id}"))["streams"][job_id]
        assert 5 <= read["delivered"] < read["computed"] == unread["computed"]
        for reader in readers:
            reader.leave()
        await fetch(post(app, f"/v1/jobs/{job_id}/cancel", {}))


async def test_one_asks_for_so_many_streams_at_once(app: App) -> None:
    client = await fetch(MemoryClient(app, "GET", "/v1/flow", query="&".join(["id=x"] * 65)))
    assert (client.status, client.json["error"]["param"]) == (400, "id")


async def look(app: App, query: str) -> Any:  # noqa: ANN401
    client = await fetch(MemoryClient(app, "GET", "/v1/flow", query=query))
    assert client.headers[b"cache-control"] == b"no-store"
    return client.json
