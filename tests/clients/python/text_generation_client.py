"""text-generation, the client of Text Generation Inference."""

from __future__ import annotations

from driving import MANY, MESSAGES, PROMPT, TOKENS, main
from text_generation import Client
from text_generation.errors import ValidationError


def whole(url: str) -> dict[str, str]:
    client = Client(url)
    response = client.generate(PROMPT, max_new_tokens=TOKENS)
    assert len(response.details.tokens) == response.details.generated_tokens
    chat = client.chat(messages=MESSAGES, max_tokens=TOKENS, temperature=0.0)
    return {"text": response.generated_text, "chat": chat.choices[0].message.content}


def streamed(url: str) -> dict[str, str]:
    responses = list(Client(url).generate_stream(PROMPT, max_new_tokens=TOKENS))
    text = "".join(response.token.text for response in responses if not response.token.special)
    assert responses[-1].generated_text == text
    assert responses[-1].details.generated_tokens == len(responses)
    return {"text": text}


def aborted(url: str) -> None:
    next(Client(url).generate_stream(PROMPT, max_new_tokens=MANY, repetition_penalty=1.1))


def refused(url: str) -> str:
    try:
        Client(url).generate(PROMPT, max_new_tokens=2000)
    except ValidationError as error:
        return type(error).__name__


main(whole, streamed, aborted, refused)
