"""httpx-sse: a job's events, with a connection that is left half-way."""

from __future__ import annotations

import httpx
from driving import main
from httpx_sse import connect_sse
from job import COMPLETIONS, LONG, Story, refused, submit, whole


def streamed(url: str) -> dict[str, str]:
    path, story = submit(url), Story()
    with httpx.Client(base_url=url) as client:
        with connect_sse(client, "GET", path) as source:
            for event in source.iter_sse():
                if not story.take(event.event, event.id, event.data) or story.last == 5:
                    break
        headers = {"Last-Event-ID": str(story.last)}
        with connect_sse(client, "GET", path, headers=headers) as source:
            for event in source.iter_sse():
                story.take(event.event, event.id, event.data)
        assert client.get(path, headers={"Last-Event-ID": str(story.last)}).status_code == 204
    return {"text": story.text}


def aborted(url: str) -> None:
    client = httpx.Client(base_url=url)
    with client, connect_sse(client, "POST", COMPLETIONS, json=LONG) as source:
        next(source.iter_sse())


main(whole, streamed, aborted, refused)
