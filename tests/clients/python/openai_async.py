"""openai-python without threads, which leaves a stream's end to itself for a tenth of a second."""

from __future__ import annotations

import asyncio

from driving import MANY, MESSAGES, PROMPT, TOKENS, main
from openai import APIStatusError, AsyncOpenAI

ASKED = {"model": "default", "max_tokens": TOKENS, "temperature": 0}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


def made(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def ask(url: str) -> dict[str, str]:
    async with made(url) as client:
        chat = await client.chat.completions.create(messages=MESSAGES, **ASKED)
        text = await client.completions.create(prompt=PROMPT, **ASKED)
        called = await client.chat.completions.create(
            messages=MESSAGES, tools=[TOOL], tool_choice="required", **ASKED | {"max_tokens": 200}
        )
        message = called.choices[0].message
        said = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "3"}
        answered = await client.chat.completions.create(
            messages=[*MESSAGES, message, said], tools=[TOOL], **ASKED
        )
        assert answered.choices[0].message.role == "assistant"
    return {"chat": chat.choices[0].message.content, "text": text.choices[0].text}


async def stream(url: str) -> dict[str, str]:
    async with made(url) as client:
        chunks = await client.chat.completions.create(messages=MESSAGES, stream=True, **ASKED)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        kept = await client.responses.create(
            model="default",
            input=MESSAGES,
            max_output_tokens=TOKENS,
            temperature=0,
            background=True,
        )
        events = await client.responses.retrieve(kept.id, stream=True)
        told = [event.delta async for event in events if event.type == "response.output_text.delta"]
        assert (await client.responses.retrieve(kept.id)).output_text == "".join(told)
        assert (await client.responses.cancel(kept.id)).status == "incomplete"
        await client.responses.delete(kept.id)
    return {"chat": "".join(pieces), "responses": "".join(told)}


async def abort(url: str) -> None:
    async with made(url) as client:
        chunks = await client.chat.completions.create(
            model="default",
            messages=MESSAGES,
            max_tokens=MANY,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        async for _ in chunks:
            break
        await chunks.close()


async def refuse(url: str) -> str:
    try:
        await made(url).chat.completions.create(model="default", messages=MESSAGES, max_tokens=0)
    except APIStatusError as error:
        return f"{type(error).__name__} {error.param}"


def whole(url: str) -> dict[str, str]:
    return asyncio.run(ask(url))


def streamed(url: str) -> dict[str, str]:
    return asyncio.run(stream(url))


def aborted(url: str) -> None:
    asyncio.run(abort(url))


def refused(url: str) -> str:
    return asyncio.run(refuse(url))


main(whole, streamed, aborted, refused)
