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
    Client("anthropic.mjs", ("@anthropic-ai/sdk@1.12.0",)),
    Client("openai_async.py", ("openai==3.52.0",)),
    Client("instructor_chat.py", ("instructor==1.17.0",)),
    Client("llama_index_chat.py", ("llama-index-llms-openai-like==0.8.1",)),
    Client("httpx_sse_stream.py", ("httpx-sse==0.4.3", "httpx==0.28.1")),
    Client("aiohttp_sse.py", ("aiohttp-sse-client==0.2.1", "aiohttp==3.14.5")),
    Client("sseclient_stream.py", ("sseclient-py==1.9.0", "requests==2.32.5")),
    Client("eventsource.mjs", ("eventsource@4.1.1",)),
    Client("websockets_socket.py", ("websockets==17.4",)),
    Client("trio_socket.py", ("trio-websocket==0.12.2",)),
    Client("ws.mjs", ("ws@8.23.0",)),
    Client("ai.mjs", ("ai@6.0.326", "@ai-sdk/openai-compatible@2.0.87")),
]
CHAT_REFUSAL = "BadRequestError max_tokens"
JOB_REFUSAL = "400 prompt"
REFUSALS = {
    "openai_chat.py": CHAT_REFUSAL,
    "text_generation_client.py": "ValidationError",
    "huggingface.py": "ValidationError",
    "langchain_chat.py": CHAT_REFUSAL,
    "litellm_chat.py": "ContextWindowExceededError",
    "llm_chat.py": CHAT_REFUSAL,
    "anthropic_messages.py": "BadRequestError invalid_request_error",
    "anthropic.mjs": "BadRequestError invalid_request_error",
    "openai_async.py": CHAT_REFUSAL,
    "instructor_chat.py": "True",
    "llama_index_chat.py": CHAT_REFUSAL,
    "httpx_sse_stream.py": JOB_REFUSAL,
    "aiohttp_sse.py": JOB_REFUSAL,
    "sseclient_stream.py": JOB_REFUSAL,
    "eventsource.mjs": "404 true",
    "websockets_socket.py": "error max_tokens",
    "trio_socket.py": "error max_tokens",
    "ws.mjs": "error max_tokens",
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
