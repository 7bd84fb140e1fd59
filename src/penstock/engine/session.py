"""Opening onnxruntime's session over a graph, on the device that was asked for and no other."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import onnxruntime as ort

from penstock.engine.cuda_lack import NO_KERNEL, UNKNOWN, Lack, explain
from penstock.engine.signature import BFLOAT16_TYPE
from penstock.engine.spec import ModelError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_OPTIONS = {
    # The cache takes what is left, so the arena may not grow by powers of two into it.
    "arena_extend_strategy": "kSameAsRequested",
}
_FOLDER = "session.model_external_initializers_file_folder_path"
_WARNING, _FATAL = 2, 4
WITHOUT = "start without --cuda-graphs"
_NOT_CAPTURED = "cannot use the graph capture feature"
_NO_KERNEL = "Could not find an implementation"


class CudaError(ModelError):
    """The model does not run on CUDA. `lack` says why; None where onnxruntime did not tell.

    `otherwise` is what it comes to where CUDA itself turns out to work.
    """

    def __init__(self, lack: Lack | None, graph: Path, otherwise: Lack = UNKNOWN) -> None:
        told = lack or f"onnxruntime opened {graph} without it; `penstock doctor` says why"
        super().__init__(f"device cuda: {told}, or start with --device cpu")
        self.lack = lack
        self.otherwise = otherwise


def providers() -> list[str]:
    """Those that the installed onnxruntime was built with; whether they work is another matter."""
    return list(ort.get_available_providers())


def open_on_cpu(graph: Path, threads: int) -> ort.InferenceSession:
    """Raises `ModelError`."""
    try:
        return ort.InferenceSession(str(graph), _options(threads), providers=[CPU])
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        if _NO_KERNEL in str(error) and _in_bfloat16(graph):
            raise ModelError(
                f"{graph} computes in bfloat16, for which the CPU has no kernels; serve it with "
                "--device cuda, or export it with --device cpu"
            ) from None
        raise _cannot_open(graph, error) from None


def open_on_cuda(
    graph: Path, model: bytes, threads: int, *, captures: bool = False
) -> ort.InferenceSession:
    """A session over `model`, whose weights may lie beside `graph`. Raises `ModelError`.

    One that captures is to be told at each run which graph it is.
    """
    options = _options(threads)
    # What a pattern foresees is allocated in the second run, which would be the one that is
    # captured, and nothing may be allocated in that.
    options.enable_mem_pattern = not captures
    settings = {**CUDA_OPTIONS, "enable_cuda_graph": str(int(captures))}
    options.add_session_config_entry(_FOLDER, str(graph.parent.absolute()))
    ort.set_default_logger_severity(_FATAL)
    try:
        # Finds the libraries of NVIDIA's Python packages, which are on no path of the system's.
        with redirect_stdout(StringIO()):
            ort.preload_dlls()
        session = ort.InferenceSession(
            model, options, providers=[(CUDA, settings), CPU], enable_fallback=0
        )
    except Exception as error:
        if _NOT_CAPTURED in str(error):
            raise ModelError(
                f"CUDA graphs: onnxruntime cannot capture {graph}; {WITHOUT}"
            ) from None
        if _NO_KERNEL in str(error):
            # On the CPU, as a rule, to which it went without a word, and which has no bfloat16.
            raise CudaError(None, graph, NO_KERNEL) from None
        if (lack := explain(str(error))) is UNKNOWN:
            raise _cannot_open(graph, error) from None
        raise CudaError(lack, graph) from None
    finally:
        ort.set_default_logger_severity(_WARNING)
    if CUDA not in session.get_providers():
        raise CudaError(None, graph)
    return session


def _in_bfloat16(graph: Path) -> bool:
    # Its 0.2 s are for those alone whose model does not open.
    import onnx

    inputs = onnx.load(graph, load_external_data=False).graph.input
    return any(each.type.tensor_type.elem_type == BFLOAT16_TYPE for each in inputs)


def _cannot_open(graph: Path, error: Exception) -> ModelError:
    return ModelError(f"onnxruntime cannot open {graph}: {str(error).splitlines()[0][:200]}")


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Between two runs the pool's threads would otherwise spin on the cores that write the tokens:
    # at 16 streams on two cores the model was busy 77 % of the time, and 88 % with this.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
