"""huggingface_hub: TGI's routes through `text_generation`, OpenAI's through `chat_completion`."""

from __future__ import annotations

from driving import MANY, MESSAGES, PROMPT, TOKENS, main
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError


def whole(url: str) -> dict[str, str]:
    client = InferenceClient(url)
    detailed = client.text_generation(PROMPT, max_new_tokens=TOKENS, details=True)
    assert len(detailed.details.tokens) == detailed.details.generated_tokens
    plain = client.text_generation(PROMPT, max_new_tokens=TOKENS)
    assert plain == detailed.generated_text
    chat = client.chat_completion(MESSAGES, max_tokens=TOKENS, temperature=0)
    return {"text": plain, "chat": chat.choices[0].message.content}


def streamed(url: str) -> dict[str, str]:
    client = InferenceClient(url)
    text = "".join(client.text_generation(PROMPT, max_new_tokens=TOKENS, stream=True))
    events = client.text_generation(PROMPT, max_new_tokens=TOKENS, stream=True, details=True)
    assert list(events)[-1].generated_text == text
    chat = client.chat_completion(MESSAGES, max_tokens=TOKENS, temperature=0, stream=True)
    return {
        "text": text,
        "chat": "".join(chunk.choices[0].delta.content or "" for chunk in chat),
    }


def aborted(url: str) -> None:
    client = InferenceClient(url)  # which closes its streams when it is collected
    stream = client.text_generation(
        PROMPT, max_new_tokens=MANY, repetition_penalty=1.1, stream=True
    )
    next(iter(stream))


def refused(url: str) -> str:
    try:
        InferenceClient(url).text_generation(PROMPT, max_new_tokens=0)
    except ValidationError as error:
        return type(error).__name__


main(whole, streamed, aborted, refused)
