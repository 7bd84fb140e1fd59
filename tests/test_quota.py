"""A key's quota ends a generation at exactly its last token, however it is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from penstock.access.memory_ledger import MemoryLedger
from penstock.build import assemble
from penstock.engine.model import Model
from penstock.engine.tokenizer import Tokenizer
from penstock.errors import QUOTA_EXCEEDED, PenstockError
from penstock.events import Delta, Failed, Finished
from penstock.live import Live
from penstock.requests import Caller, GenerateRequest, Limit, Sampling
from penstock.service import Service
from penstock.settings import Settings
from tests.peers import GatedSink, PlainEncoder, make_engine

QUOTA = Limit("tokens_per_day", 100)
CALLER = Caller("ann", limits=(QUOTA,))
ASK = GenerateRequest(
    prompt="Once upon a time",
    max_tokens=120,
    sampling=Sampling(seed=3),
    ignore_eos=True,
    caller=CALLER,
)
PROMPT_TOKENS = 5


@pytest.fixture
def service(model: Model, tokenizer: Tokenizer) -> Service:
    engine = make_engine(model, slots=2)
    made = assemble(Settings(slots=2), "default", engine, tokenizer)
    made.ledger = MemoryLedger(lambda: 0.0)
    return made


async def generate(service: Service, request: GenerateRequest) -> tuple[GatedSink, Live]:
    sink, live = GatedSink(permits=1000), Live()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        try:
            await service.generate(request, PlainEncoder(), sink, live)
        finally:
            nursery.cancel_scope.cancel()
    return sink, live


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_ends_at_the_last_token_with_an_event_that_says_when_there_is_more(
    service: Service, n: int
) -> None:
    sink, live = await generate(service, replace(ASK, n=n))
    assert isinstance(live.terminal, Failed)
    assert (live.terminal.error.kind, live.terminal.error.retry_after_s) == (QUOTA_EXCEEDED, 86_400)
    assert sink.written[-1] is live.terminal
    assert await service.ledger.used("ann", QUOTA) == 100
    page = service.metrics.render().decode()
    assert f"penstock_generated_tokens_total {100 - PROMPT_TOKENS}.0" in page
    assert 'penstock_requests_failed_total{reason="quota"} 1.0' in page
    covered: dict[int, int] = {}
    for event in sink.written:
        if isinstance(event, Delta):
            covered[event.choice] = event.through
    # Those whose text was still held back when the quota ended are counted and not told.
    assert 100 - PROMPT_TOKENS - 2 * n <= sum(covered.values()) <= 100 - PROMPT_TOKENS


async def test_one_that_ends_within_its_quota_pays_for_what_it_used(service: Service) -> None:
    _, live = await generate(service, replace(ASK, max_tokens=20))
    assert isinstance(live.terminal, Finished)
    assert await service.ledger.used("ann", QUOTA) == PROMPT_TOKENS + 20


async def test_one_that_cannot_begin_is_refused_before_anything_is_written(
    service: Service,
) -> None:
    await generate(service, replace(ASK, max_tokens=90))
    with pytest.raises(BaseExceptionGroup) as caught:
        await generate(service, replace(ASK, prompt="Once upon a time " * 10))
    assert caught.group_contains(PenstockError, match="tokens for today are used up")
    assert await service.ledger.used("ann", QUOTA) == PROMPT_TOKENS + 90


async def test_another_account_is_not_charged(service: Service) -> None:
    await generate(service, ASK)
    _, live = await generate(service, replace(ASK, caller=Caller("ben", limits=(QUOTA,))))
    assert isinstance(live.terminal, Failed)
    assert await service.ledger.used("ben", QUOTA) == 100


async def test_models_that_a_key_may_not_use_do_not_exist_for_it(service: Service) -> None:
    caller = Caller("ann", models=("other",))
    with pytest.raises(BaseExceptionGroup) as caught:
        await generate(service, replace(ASK, caller=caller))
    assert caught.group_contains(PenstockError, match="no such model here")
    with pytest.raises(PenstockError):
        service.resolve("default", caller)
    assert service.resolve("", replace(caller, models=("default",))) is service.default
