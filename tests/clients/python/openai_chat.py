"""openai-python."""

from __future__ import annotations

from driving import MANY, MESSAGES, PROMPT, QUESTION, TOKENS, main
from openai import APIStatusError, OpenAI


def made(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def whole(url: str) -> dict[str, str]:
    client = made(url)
    asked = {"model": "default", "max_tokens": TOKENS, "temperature": 0}
    response = client.responses.create(
        model="default", input=MESSAGES, max_output_tokens=TOKENS, temperature=0
    )
    assert (response.status, response.usage.output_tokens) == ("incomplete", TOKENS)
    return {
        "responses": response.output_text,
        "chat": client.chat.completions.create(messages=MESSAGES, **asked)
        .choices[0]
        .message.content,
        "text": client.completions.create(prompt=PROMPT, **asked).choices[0].text,
    }


def streamed(url: str) -> dict[str, str]:
    client = made(url)
    asked = {"model": "default", "max_tokens": TOKENS, "temperature": 0, "stream": True}
    chat = client.chat.completions.create(messages=MESSAGES, **asked)
    text = client.completions.create(prompt=PROMPT, **asked)
    with client.responses.stream(
        model="default", input=QUESTION, max_output_tokens=TOKENS, temperature=0
    ) as stream:
        events = list(stream)
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[-1].response.output_text == "".join(pieces)
    return {
        "responses": "".join(pieces),
        "chat": "".join(chunk.choices[0].delta.content or "" for chunk in chat),
        "text": "".join(chunk.choices[0].text for chunk in text),
    }


def aborted(url: str) -> None:
    stream = made(url).chat.completions.create(
        model="default",
        messages=MESSAGES,
        max_tokens=MANY,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.close()


def refused(url: str) -> str:
    try:
        made(url).chat.completions.create(model="default", messages=MESSAGES, max_tokens=0)
    except APIStatusError as error:
        return f"{type(error).__name__} {error.param}"


main(whole, streamed, aborted, refused)
