"""Why CUDA cannot be used, told in a line, from what onnxruntime and the CUDA runtime say.

onnxruntime tells it on the terminal only, in paragraphs with source lines of its own, and goes on
without CUDA. Each row of `_KNOWN` is one such message as it was seen, here or in its issues.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INSTALL = "pip install 'penstock[cuda]'"
DRIVER = "install one with which `nvidia-smi` lists the GPU"


@dataclass(frozen=True, slots=True)
class Lack:
    """`what` is not there, and what to do about it."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


NOT_BUILT = Lack("the onnxruntime that is installed is without CUDA", INSTALL)
NO_KERNEL = Lack(
    "onnxruntime has no CUDA kernel for a part of the model",
    "a newer onnxruntime-gpu may have it, or make a file with `penstock export --device cuda`",
)
NO_DRIVER = Lack("there is no NVIDIA driver here", DRIVER)

_OPEN = "cannot open shared object file"
_KNOWN = (
    (rf"lib(cuda|nvidia-[\w-]+)\.so[.\d]*: {_OPEN}", NO_DRIVER),
    (r"is not in available provider names", NOT_BUILT),
    (rf"error: (?P<name>\S+): {_OPEN}", Lack("{name} is missing", INSTALL)),
    (
        r"error: (?P<name>\S+): (?:undefined symbol|version \S+ not found)",
        Lack("{name} is of another version than onnxruntime asks for", INSTALL),
    ),
    (
        r"error(?: code)?:? 126\b",
        Lack("a library that onnxruntime's CUDA part needs is missing", INSTALL),
    ),
    (
        r"CUDA failure (?:35|803|804): (?P<said>[^;\n]+)",
        Lack("{said}", "install a newer NVIDIA driver, or the onnxruntime-gpu of an older CUDA"),
    ),
    (
        r"CUDA failure (?:100|101|802|999): (?P<said>[^;\n]+)",
        Lack(
            "{said}",
            "`nvidia-smi` must list a GPU; a container needs --gpus all, and "
            "CUDA_VISIBLE_DEVICES must not hide it",
        ),
    ),
    (
        r"CUDA failure (?:2|CUBLAS_STATUS_ALLOC_FAILED): ?[^;\n]*|[Ff]ailed to allocate memory",
        Lack(
            "the GPU has too little free memory", "end what else is on it, or take a smaller model"
        ),
    ),
    (
        r"CUDA failure \d+: (?P<said>no kernel image[^;\n]*)",
        Lack("{said}", "this GPU is older than what the installed onnxruntime-gpu was built for"),
    ),
    (
        r"(?:CUDA|CUDNN) failure \w+: (?P<said>[^;\n]+)",
        Lack("{said}", "`nvidia-smi` tells whether the GPU works"),
    ),
)
UNKNOWN = Lack(
    "its libraries or its device are missing",
    f"{INSTALL}, and a driver with which `nvidia-smi` lists the GPU",
)


def explain(said: str) -> Lack:
    """What all that was written comes to; the first message that is known counts."""
    for pattern, lack in _KNOWN:
        if found := re.search(pattern, said):
            named = {name: value.strip() for name, value in found.groupdict().items()}
            return Lack(lack.what.format(**named), lack.advice)
    return UNKNOWN
