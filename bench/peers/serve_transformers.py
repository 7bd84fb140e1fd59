"""What many would write: transformers behind FastAPI, a thread and a streamer a request.

    python serve_transformers.py CHECKPOINT PORT THREADS [--careful]

`--careful` ends a generation whose client has gone, which a streamer alone does not. Runs in an
environment of its own: `pip install torch transformers fastapi uvicorn`.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

NAME = "transformers"


class Gone(StoppingCriteria):
    """True once nobody reads any more."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((ids.shape[0],), self.event.is_set())


class Completion(BaseModel):
    prompt: str
    max_tokens: int = 16
    ignore_eos: bool = False
    model: str = NAME


class Server:
    def __init__(self, folder: str, *, careful: bool) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.model.generation_config.pad_token_id = 0
        self.careful = careful

    def stream(self, asked: Completion) -> Iterator[str]:
        ids = self.tokenizer(asked.prompt, return_tensors="pt").input_ids
        streamer, gone = TextIteratorStreamer(self.tokenizer, skip_prompt=True), Gone()
        least = {"min_new_tokens": asked.max_tokens} if asked.ignore_eos else {}
        settings = {"max_new_tokens": asked.max_tokens, "do_sample": False, **least}
        if self.careful:
            settings["stopping_criteria"] = StoppingCriteriaList([gone])
        made: list[torch.Tensor] = []

        def generate() -> None:
            made.append(self.model.generate(ids, streamer=streamer, **settings))

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        try:
            for text in streamer:
                yield event(choices=[{"index": 0, "text": text, "finish_reason": None}])
        finally:
            gone.event.set()
        thread.join()
        tokens = made[0].shape[1] - ids.shape[1]
        reason = "length" if tokens == asked.max_tokens else "stop"
        yield event(choices=[{"index": 0, "text": "", "finish_reason": reason}])
        usage = {"prompt_tokens": ids.shape[1], "completion_tokens": tokens}
        yield event(choices=[], usage=usage)
        yield "data: [DONE]\n\n"


def event(**fields: object) -> str:
    return f"data: {json.dumps({'model': NAME, **fields})}\n\n"


def make_app(server: Server) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": NAME, "object": "model"}]}

    @app.post("/v1/completions")
    def completions(asked: Completion) -> StreamingResponse:
        return StreamingResponse(server.stream(asked), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("port", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("--careful", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    app = make_app(Server(given.checkpoint, careful=given.careful))
    uvicorn.run(app, port=given.port, log_level="warning")
