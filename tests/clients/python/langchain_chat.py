"""langchain-openai."""

from __future__ import annotations

from driving import MANY, QUESTION, TOKENS, main
from langchain_openai import ChatOpenAI
from openai import BadRequestError


def made(url: str, **more: object) -> ChatOpenAI:
    asked = {"model": "default", "temperature": 0, "max_tokens": TOKENS, "max_retries": 0} | more
    return ChatOpenAI(base_url=f"{url}/v1", api_key="none", **asked)


def whole(url: str) -> dict[str, str]:
    answer = made(url).invoke(QUESTION)
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata["output_tokens"] == TOKENS
    return {"chat": answer.content}


def streamed(url: str) -> dict[str, str]:
    chunks = list(made(url, stream_usage=True).stream(QUESTION))
    added = chunks[0]
    for chunk in chunks[1:]:
        added = added + chunk
    assert added.response_metadata["finish_reason"] == "length"
    assert added.usage_metadata["output_tokens"] == TOKENS
    return {"chat": added.content}


def aborted(url: str) -> None:
    stream = made(url, max_tokens=MANY, extra_body={"ignore_eos": True}).stream(QUESTION)
    next(stream)
    stream.close()


def refused(url: str) -> str:
    try:
        made(url, max_tokens=100_000).invoke(QUESTION)
    except BadRequestError as error:
        return f"{BadRequestError.__name__} {error.param}"


main(whole, streamed, aborted, refused)
