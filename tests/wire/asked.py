"""Requests that several tests make."""

from __future__ import annotations

from typing import Any

STORY: list[Any] = [{"role": "user", "content": "Tell me a story about a dog."}]
PROMPT = "Once upon a time"

LONG: dict[str, Any] = {"max_tokens": 900, "extra_body": {"ignore_eos": True}}
"""For openai and huggingface clients: most of a second of decoding."""

LONG_BODY: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 900, "ignore_eos": True}
"""The same as a body or a WebSocket message."""
