"""sseclient-py, on requests."""

from __future__ import annotations

import requests
from driving import main
from job import COMPLETIONS, LONG, Story, refused, submit, whole
from sseclient import SSEClient


def streamed(url: str) -> dict[str, str]:
    story = Story()
    with requests.get(url + submit(url), stream=True, timeout=30) as response:
        for event in SSEClient(response).events():
            story.take(event.event, event.id, event.data)
    return {"text": story.text}


def aborted(url: str) -> None:
    with requests.post(url + COMPLETIONS, json=LONG, stream=True, timeout=30) as response:
        next(SSEClient(response).events())


main(whole, streamed, aborted, refused)
