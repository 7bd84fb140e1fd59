"""instructor: answers as objects, through calls of tools and through schemas."""

from __future__ import annotations

from typing import Literal

import instructor
from driving import MANY, MESSAGES, TOKENS, main
from openai import OpenAI
from pydantic import BaseModel, ConfigDict

ASKED = {"model": "default", "temperature": 0, "messages": MESSAGES}


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Literal["small", "big"]
    legs: Literal[3, 4]


def made(url: str, mode: instructor.Mode) -> instructor.Instructor:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    return instructor.from_openai(client, mode=mode)


def whole(url: str) -> dict[str, str]:
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = made(url, mode)
        asked = {"response_model": Dog, "max_tokens": 200, "max_retries": 0}
        assert client.chat.completions.create(**ASKED, **asked).legs in (3, 4)
    plain = client.chat.completions.create(**ASKED, response_model=None, max_tokens=TOKENS)
    return {"chat": plain.choices[0].message.content}


def streamed(url: str) -> dict[str, str]:
    client = made(url, instructor.Mode.TOOLS)
    parts = list(
        client.chat.completions.create_partial(**ASKED, response_model=Dog, max_tokens=200)
    )
    assert parts[-1].size in ("small", "big")
    chunks = client.chat.completions.create(
        **ASKED, response_model=None, max_tokens=TOKENS, stream=True
    )
    return {"chat": "".join(chunk.choices[0].delta.content or "" for chunk in chunks)}


def aborted(url: str) -> None:
    chunks = made(url, instructor.Mode.TOOLS).chat.completions.create(
        **ASKED,
        response_model=None,
        max_tokens=MANY,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(chunks))
    chunks.close()


def refused(url: str) -> str:
    try:
        made(url, instructor.Mode.TOOLS).chat.completions.create(
            **ASKED, response_model=Dog, max_tokens=0, max_retries=0
        )
    except Exception as error:  # what it wraps the client's own in has changed
        return str("max_tokens must be" in str(error))


main(whole, streamed, aborted, refused)
