"""anthropic-python."""

from __future__ import annotations

from anthropic import Anthropic, BadRequestError
from driving import MANY, MESSAGES, TOKENS, main

GREEDY = {"extra_body": {"temperature": 0}}


def made(url: str) -> Anthropic:
    return Anthropic(base_url=url, api_key="none", max_retries=0)


def whole(url: str) -> dict[str, str]:
    client = made(url)
    asked = {"model": "default", "messages": MESSAGES}
    message = client.messages.create(max_tokens=TOKENS, **asked, **GREEDY)
    assert message.stop_reason == "max_tokens"
    assert client.messages.count_tokens(**asked).input_tokens == message.usage.input_tokens
    return {"chat": message.content[0].text}


def streamed(url: str) -> dict[str, str]:
    asked = {"model": "default", "messages": MESSAGES, "max_tokens": TOKENS}
    with made(url).messages.stream(**asked, **GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", TOKENS)
    assert final.usage.input_tokens > 5
    return {"chat": text}


def aborted(url: str) -> None:
    asked = {"model": "default", "messages": MESSAGES, "max_tokens": MANY}
    with made(url).messages.stream(**asked, extra_body={"ignore_eos": True}) as stream:
        next(stream.text_stream)


def refused(url: str) -> str:
    try:
        made(url).messages.create(model="default", messages=MESSAGES, max_tokens=5000)
    except BadRequestError as error:
        return f"{type(error).__name__} {error.body['error']['type']}"


main(whole, streamed, aborted, refused)
