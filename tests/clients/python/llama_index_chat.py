"""llama-index, with the server as an OpenAI-like one."""

from __future__ import annotations

from driving import MANY, PROMPT, QUESTION, TOKENS, main
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai import BadRequestError

MESSAGES = [ChatMessage(role="user", content=QUESTION)]


def made(url: str, *, chat: bool = True, tokens: int = TOKENS, **more: object) -> OpenAILike:
    return OpenAILike(
        model="default",
        api_base=f"{url}/v1",
        api_key="none",
        is_chat_model=chat,
        context_window=1024,
        temperature=0,
        max_tokens=tokens,
        max_retries=0,
        additional_kwargs=more,
    )


def whole(url: str) -> dict[str, str]:
    chat = made(url).chat(MESSAGES)
    text = made(url, chat=False).complete(PROMPT)
    return {"chat": chat.message.content, "text": text.text}


def streamed(url: str) -> dict[str, str]:
    chat = "".join(piece.delta or "" for piece in made(url).stream_chat(MESSAGES))
    text = "".join(piece.delta for piece in made(url, chat=False).stream_complete(PROMPT))
    return {"chat": chat, "text": text}


def aborted(url: str) -> None:
    next(made(url, tokens=MANY, extra_body={"ignore_eos": True}).stream_chat(MESSAGES))


def refused(url: str) -> str:
    try:
        made(url, tokens=100_000).chat(MESSAGES)
    except BadRequestError as error:
        return f"{type(error).__name__} {error.param}"


main(whole, streamed, aborted, refused)
