"""What the drivers of clients of server-sent events ask: a job and its events."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from driving import MANY, PROMPT, TOKENS

ASKED = {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
LONG = {"prompt": PROMPT, "max_tokens": MANY, "ignore_eos": True, "stream": True}
COMPLETIONS = "/v1/completions"


def post(url: str, path: str, body: object) -> Any:
    headers = {"content-type": "application/json"}
    with urlopen(Request(url + path, json.dumps(body).encode(), headers)) as response:
        return json.load(response)


def submit(url: str) -> str:
    """Where the events of a new job are."""
    return str(post(url, "/v1/jobs", ASKED)["stream_url"])


def whole(url: str) -> dict[str, str]:
    """Without streaming these clients are nothing but HTTP."""
    return {"text": post(url, COMPLETIONS, ASKED)["choices"][0]["text"]}


def refused(url: str) -> str:
    try:
        post(url, "/v1/jobs", {})
    except HTTPError as error:
        return f"{error.code} {json.load(error)['error']['param']}"


class Story:
    """The text of a job, put together from its events: each id once, in order."""

    def __init__(self) -> None:
        self.text = ""
        self.last = 0

    def take(self, name: str, number: str | None, data: str) -> bool:
        """Whether it goes on."""
        assert int(number or 0) == self.last + 1, (number, self.last)
        self.last += 1
        self.text += json.loads(data).get("text", "")
        return name == "token"
