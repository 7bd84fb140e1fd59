"""Real clients, each as its users call it: whole, streamed, aborted, refused."""

from __future__ import annotations

import pytest

from tests.wire.servers import Server

from .environments import Client

QUESTION = "Tell me a story about a dog."
PROMPT = "Once upon a time"
TOKENS = 30

CLIENTS = [
    Client("openai_chat.py", ("openai==3.52.0",)),
    Client("openai_chat.py", ("openai==2.54.0",)),
    Client("text_generation_client.py", ("text-generation==0.7.0",)),
    Client("huggingface.py", ("huggingface-hub==2.4.0",)),
    Client("huggingface.py", ("huggingface-hub==0.36.2",)),
    Client("langchain_chat.py", ("langchain-openai==1.7.3",)),
    Client("litellm_chat.py", ("litellm==1.106.2",)),
    Client("llm_chat.py", ("llm==0.36",)),
    Client("anthropic_messages.py", ("anthropic==2.11.0",)),
    Client("openai.mjs", ("openai@6.49.0",)),
    Client("huggingface.mjs", ("@huggingface/inference@4.13.30",)),
    Client("ai.mjs", ("ai@6.0.326", "@ai-sdk/openai-compatible@2.0.87")),
]
CHAT_REFUSAL = "BadRequestError max_tokens"
REFUSALS = {
    "openai_chat.py": CHAT_REFUSAL,
    "text_generation_client.py": "ValidationError",
    "huggingface.py": "ValidationError",
    "langchain_chat.py": CHAT_REFUSAL,
    "litellm_chat.py": "BadRequestError",
    "llm_chat.py": CHAT_REFUSAL,
    "anthropic_messages.py": "BadRequestError invalid_request_error",
    "openai.mjs": CHAT_REFUSAL,
    "huggingface.mjs": "InferenceClientProviderApiError",
    "ai.mjs": "AI_APICallError",
}

every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


@pytest.fixture(scope="session")
def texts(server: Server) -> dict[str, str]:
    """What the server says to a plain HTTP request."""
    asked = {"max_tokens": TOKENS, "temperature": 0}
    messages = [{"role": "user", "content": QUESTION}]
    chat = server.ask("POST", "/v1/chat/completions", {"messages": messages, **asked})
    text = server.ask("POST", "/v1/completions", {"prompt": PROMPT, **asked})
    told = chat.json["choices"][0]["message"]["content"]
    return {
        "chat": told,
        "responses": told,
        "text": text.json["choices"][0]["text"],
    }


@every_client
@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_a_client_gets_the_text(
    server: Server, texts: dict[str, str], client: Client, way: str
) -> None:
    with server.endings() as ended:
        told = client.run(server.url, way)
    assert told
    assert told == {kind: texts[kind] for kind in told}
    assert set(ended) <= {"length", "stop"}


@every_client
def test_a_client_that_aborts_cancels_its_generation_once(server: Server, client: Client) -> None:
    with server.endings() as ended:
        client.run(server.url, "aborted")
    assert ended == {"disconnect": 1}


@every_client
def test_a_client_knows_a_refusal_for_what_it_is(server: Server, client: Client) -> None:
    assert client.run(server.url, "refused") == REFUSALS[client.driver]
