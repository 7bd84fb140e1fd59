"""`python -m tests.simulation --seed N`: live through worlds, and tell the story of what broke."""

from __future__ import annotations

import argparse
import sys

from . import simulate
from .fleet import fleet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument(
        "--fleet", action="store_true", help="worlds of several processes and their store"
    )
    asked = parser.parse_args()
    run = fleet.run if asked.fleet else simulate.run
    for seed in range(asked.seed, asked.seed + asked.seeds):
        story = run(seed)
        if story.error is not None or asked.seeds == 1:
            print(story)  # noqa: T201  # this is a command
        if story.error is not None:
            sys.exit(1)
    print(f"{asked.seeds} worlds, every promise kept")  # noqa: T201


if __name__ == "__main__":
    main()
