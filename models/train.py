"""Train a small llama-shaped model on a folder of documents.

    python models/train.py DATA_DIR OUT_DIR --minutes 60
    python models/train.py DATA_DIR OUT_DIR --minutes 60 --resume     # after a kill or a crash
    python models/train.py DATA_DIR OUT_DIR --minutes 60 --init OTHER # from where OTHER ended

DATA_DIR holds JSON lines (*.jsonl, in subfolders too), each with "text" or "messages"; the
standard library of this interpreter is added as code. OUT_DIR becomes a checkpoint that
`penstock export` reads; beside it lie `resume.pt` (all that is needed to go on) and
`training.json` (settings and held-back losses). What a step trains on depends on the seed and
its number alone, so with --steps the same command gives the same weights on the same machine.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import prep
import torch
from corpus import Corpus, Windows
from llama import Llama, Shape, read_checkpoint, write_checkpoint
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

WARMUP_STEPS = 100
FLOOR = 0.05
"""The learning rate ends at this part of its peak."""

FREE = {"data_dir", "out_dir", "resume", "steps", "minutes", "device", "threads", "save_seconds"}
"""Settings that a resumed run may give anew; all others must be as they were."""


class Run:
    """One training run: the model, its optimiser, and where it stands."""

    def __init__(self, settings: argparse.Namespace, model: Llama, data: str) -> None:
        self.settings = settings
        self.fixed = {k: v for k, v in vars(settings).items() if k not in FREE} | {"data": data}
        self.device = _device(settings.device)
        self.model = model.to(self.device)
        self.fast = torch.compile(self.model) if settings.compile else self.model
        self.before: dict[str, float] = {}
        """Held-back losses of the checkpoint that it began with."""
        self.optimiser = _optimiser(self.model, settings.rate)
        self.step, self.seconds = 0, 0.0

    @property
    def progress(self) -> float:
        """From 0 to 1, by steps or by minutes."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.seconds / (60 * self.settings.minutes))

    def save(self, folder: Path) -> None:
        """Replace resume.pt in one go: a kill in the middle leaves the one before."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "fixed": self.fixed,
            "before": self.before,
        }
        partial = folder / "resume.pt.partial"
        torch.save(state, partial)
        os.replace(partial, folder / "resume.pt")

    def load(self, folder: Path) -> None:
        """Go on from resume.pt; refuse one that was made with other settings or other data."""
        state = torch.load(folder / "resume.pt", map_location=self.device, weights_only=True)
        then = state["fixed"]
        if changed := [name for name in self.fixed if then.get(name) != self.fixed[name]]:
            told = "; ".join(f"{n} was {then.get(n)}, is {self.fixed[n]}" for n in changed)
            raise prep.TrainError(f"cannot resume {folder} with other settings: {told}")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.before = state["before"]

    def learn(self, windows: Windows) -> float:
        """Take one step; return the loss before it."""
        started = time.monotonic()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * self._rate_factor()
        loss = self.loss(self.fast, windows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        value = loss.item()
        self.step += 1
        self.seconds += time.monotonic() - started
        return value

    def loss(self, network: Callable[[Tensor, Tensor], Tensor], windows: Windows) -> Tensor:
        tokens = torch.from_numpy(windows).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            return network(tokens[:, :-1], tokens[:, 1:])

    def _rate_factor(self) -> float:
        """Warm up over the first steps, then fall along half a cosine."""
        wave = 0.5 * (1 + math.cos(math.pi * self.progress))
        return min(1.0, (self.step + 1) / WARMUP_STEPS) * (FLOOR + (1 - FLOOR) * wave)


def _optimiser(model: Llama, rate: float) -> torch.optim.AdamW:
    matrices = [each for each in model.parameters() if each.dim() > 1]
    norms = [each for each in model.parameters() if each.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise prep.TrainError("--device cuda: PyTorch sees no CUDA device here")
    return torch.device(name)


def start(settings: argparse.Namespace) -> tuple[Run, Corpus, Tokenizer]:
    """Read, tokenise and build, or pick up what an earlier run left in the output folder."""
    if min(settings.steps or settings.minutes or 0, settings.batch, settings.threads) <= 0:
        raise prep.TrainError("--steps, --minutes, --batch and --threads have to be above 0")
    folder, resume = settings.out_dir, settings.out_dir / "resume.pt"
    if settings.resume and not resume.is_file():
        raise prep.TrainError(f"nothing to resume: there is no {resume}")
    if not settings.resume and folder.is_dir() and any(folder.iterdir()):
        raise prep.TrainError(f"{folder} is not empty; give --resume, or another folder")
    torch.manual_seed(settings.seed)
    model = _model(settings)
    parts = prep.read_documents(settings.data_dir, settings.repeat, settings.seed)
    run = Run(settings, model, prep.fingerprint(parts))
    if settings.resume:
        run.load(folder)
    if known := folder if settings.resume else settings.init:
        tokeniser = Tokenizer.from_file(str(Path(known) / "tokenizer.json"))
    else:
        tokeniser = prep.train_tokeniser(parts[0], settings.vocab, settings.seed)
    corpus = Corpus(tokeniser, parts, width=settings.context + 1, mix=settings.mix)
    return run, corpus, tokeniser


def _model(settings: argparse.Namespace) -> Llama:
    if settings.init:
        return read_checkpoint(Path(settings.init), settings.context)
    return Llama(Shape(**{each.name: getattr(settings, each.name) for each in fields(Shape)}))


def train(run: Run, corpus: Corpus, tokeniser: Tokenizer) -> None:
    """Step until done; a kill loses at most what came after the last save."""
    settings, loss, saved = run.settings, math.nan, -math.inf
    settings.out_dir.mkdir(parents=True, exist_ok=True)
    layout = "{percentage:5.1f}% |{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=1.0, initial=run.progress, bar_format=layout, mininterval=1) as bar:
        while run.progress < 1:
            if time.monotonic() - saved > settings.save_seconds:
                save(run, tokeniser)
                saved = time.monotonic()
            before = run.seconds
            last = run.learn(corpus.batch(settings.batch, (settings.seed, run.step)))
            loss = last if math.isnan(loss) else 0.98 * loss + 0.02 * last
            speed = settings.batch * settings.context / (run.seconds - before)
            bar.set_postfix_str(f"step {run.step}, loss {loss:.3f}, {speed:,.0f} tokens/s", False)
            bar.update(run.progress - bar.n)
    save(run, tokeniser)


def save(run: Run, tokeniser: Tokenizer) -> None:
    write_checkpoint(run.model, tokeniser, run.settings.out_dir)
    run.save(run.settings.out_dir)


@torch.no_grad()
def validate(run: Run, corpus: Corpus) -> dict[str, float]:
    """Return the held-back loss by kind, in nats a token."""
    losses = {}
    for kind in prep.KINDS:
        windows = corpus.held_back(kind)
        if len(windows):
            total = sum(run.loss(run.model, window[None]).item() for window in windows)
            losses[kind] = round(total / len(windows), 4)
    return losses


def report(run: Run, losses: dict[str, float]) -> None:
    """Print what came out, and write it to training.json."""
    seen = run.step * run.settings.batch * run.settings.context
    parameters = sum(each.numel() for each in run.model.parameters())
    told = {"parameters": parameters, "steps": run.step, "tokens": seen}
    told |= {"held_back_loss": losses, "held_back_loss_before": run.before}
    file = run.settings.out_dir / "training.json"
    file.write_text(json.dumps({**told, **run.fixed}, indent=1) + "\n", encoding="utf-8")
    print(f"{parameters / 1e6:.2f} M parameters, {run.step} steps, {seen / 1e6:.2f} M tokens")
    for kind, loss in losses.items():
        before = f", before {run.before[kind]:.3f}" if run.before else ""
        print(f"held back, {kind:6} {loss:.3f} nats a token, e^ {math.exp(loss):.1f}{before}")


def main() -> None:
    settings = parse(sys.argv[1:])
    torch.set_num_threads(settings.threads)
    try:
        run, corpus, tokeniser = start(settings)
        print(corpus, flush=True)
        if settings.init and not run.step:
            run.before = validate(run, corpus)
        train(run, corpus, tokeniser)
        report(run, validate(run, corpus))
    except prep.TrainError as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit("train.py: interrupted; the same command with --resume goes on")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float)
    options: list[tuple[str, Any]] = [("layers", 8), ("hidden", 256), ("heads", 4), ("kv-heads", 2)]
    options += [("intermediate", 768), ("vocab", 4096), ("context", 512), ("batch", 16)]
    options += [("seed", 0), ("rate", 2e-3), ("save-seconds", 60.0), ("threads", os.cpu_count())]
    for name, default in options:
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{default}")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--compile", action="store_true", help="a minute's start, then faster")
    parser.add_argument("--resume", action="store_true", help="go on with what is in OUT_DIR")
    parser.add_argument("--init", help="a checkpoint to start from; its sizes and tokeniser stay")
    parser.add_argument("--mix", type=_pairs, default=_pairs("story=4,asked=2,chat=2.5,code=1.5"))
    parser.add_argument("--repeat", type=_pairs, default={}, help="for example 'tiny*=5,aesop*=3'")
    return parser.parse_args(arguments)


def _pairs(text: str) -> dict[str, float]:
    """Parse "a=1,b=2.5"."""
    pairs = (each.partition("=") for each in text.split(","))
    return {name: float(number) for name, _, number in pairs}


if __name__ == "__main__":
    main()
