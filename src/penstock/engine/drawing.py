"""What sampling is told of a sequence, and what a sequence is told of its token's probability."""

from __future__ import annotations

from penstock.engine.logprobs import UNSCORED, Scores, score
from penstock.engine.sampling import Allowed, Draw
from penstock.engine.sequence import EngineSequence
from penstock.engine.spec import Logits


def draw_of(sequence: EngineSequence, allowed: Allowed = None) -> Draw:
    prompt = sequence.prompt
    return Draw(
        prompt.sampling,
        prompt.seed,
        len(sequence.tokens),
        sequence.choice,
        prompt=sequence.token_ids,
        answer=sequence.tokens,
        allowed=allowed,
    )


def score_of(row: Logits, sequence: EngineSequence, draw: Draw, token: int) -> Scores:
    count = sequence.prompt.logprobs
    return UNSCORED if count is None else score(draw.adjust(row), token, count)
