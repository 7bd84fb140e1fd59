"""litellm, with the server as an OpenAI-compatible one."""

from __future__ import annotations

import litellm
from driving import MANY, MESSAGES, PROMPT, TOKENS, main

litellm.suppress_debug_info = True


def ask(url: str, **more: object) -> object:
    asked = {"max_tokens": TOKENS, "temperature": 0, "messages": MESSAGES, "num_retries": 0} | more
    return litellm.completion(model="openai/default", api_base=f"{url}/v1", api_key="none", **asked)


def whole(url: str) -> dict[str, str]:
    text = litellm.text_completion(
        model="text-completion-openai/default",
        api_base=f"{url}/v1",
        api_key="none",
        prompt=PROMPT,
        max_tokens=TOKENS,
        temperature=0,
    )
    return {"chat": ask(url).choices[0].message.content, "text": text.choices[0].text}


def streamed(url: str) -> dict[str, str]:
    chunks = list(ask(url, stream=True, stream_options={"include_usage": True}))
    assert any(getattr(chunk, "usage", None) for chunk in chunks)
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    return {"chat": "".join(pieces)}


def aborted(url: str) -> None:
    next(iter(ask(url, stream=True, max_tokens=MANY, extra_body={"ignore_eos": True})))


def refused(url: str) -> str:
    try:
        ask(url, max_tokens=100_000)
    except litellm.BadRequestError as error:
        return type(error).__name__


main(whole, streamed, aborted, refused)
