"""Print ten samples of a model as Markdown, each with its command, unedited.

    python models/samples.py MODEL_DIR >> notes.md

They are made by `penstock generate` with fixed seeds, so the same model gives the same ten.
"""

import shlex
import subprocess
import sys

ASKED: list[list[str]] = [
    ["Once upon a time"],
    ["Once upon a time, there was a little fox who lived in the woods."],
    ["--chat", "Tell me a story about a dog."],
    ["--chat", "Write a short story about a princess and a frog."],
    ["--chat", "Hello! How are you?"],
    ["--chat", "What is the capital of France?"],
    ["--chat", "Name three animals that can fly."],
    ["--chat", "Tom has 3 apples and buys 4 more. How many apples does he have?"],
    ["def add(a, b):\n    return ", "--suffix", "\n\nprint(add(1, 2))\n"],
    ["import os\n\ndef list_files(", "--suffix", "\n    return names\n"],
]
COMMON = ["--temperature", "0.7", "--seed", "1", "--max-tokens", "160"]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for number, asked in enumerate(ASKED, start=1):
        command = ["penstock", "generate", *asked]
        whole = [sys.executable, "-m", *command, *COMMON, "--model", sys.argv[1]]
        answer = subprocess.run(whole, check=True, capture_output=True, encoding="utf-8").stdout
        fenced = answer.rstrip("\n").replace("\n", "\n    ")
        print(f"{number}. `{shlex.join(command)}`\n\n    {fenced}\n".replace("\n    \n", "\n\n"))


if __name__ == "__main__":
    main()
