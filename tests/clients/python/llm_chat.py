"""llm, as its users configure a server that speaks OpenAI's dialect."""

from __future__ import annotations

from driving import MANY, QUESTION, TOKENS, main
from llm.default_plugins.openai_models import Chat
from openai import BadRequestError


def ask(url: str, *, stream: bool, tokens: int = TOKENS) -> object:
    model = Chat("penstock", model_name="default", api_base=f"{url}/v1")
    model.key = "none"
    return model.prompt(QUESTION, stream=stream, temperature=0, max_tokens=tokens)


def whole(url: str) -> dict[str, str]:
    return {"chat": ask(url, stream=False).text()}


def streamed(url: str) -> dict[str, str]:
    return {"chat": "".join(ask(url, stream=True))}


def aborted(url: str) -> None:
    next(iter(ask(url, stream=True, tokens=MANY)))


def refused(url: str) -> str:
    try:
        ask(url, stream=False, tokens=100_000).text()
    except BadRequestError as error:
        return f"{type(error).__name__} {error.param}"


main(whole, streamed, aborted, refused)
