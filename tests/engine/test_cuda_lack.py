"""What onnxruntime says where CUDA does not work, as it was seen; and what we say."""

from __future__ import annotations

import pytest

from penstock.engine.cuda_lack import INSTALL, NO_DRIVER, NOT_BUILT, UNKNOWN, explain

LOAD = (
    "[1;31m2026-11-21 12:57:48 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& "
    "onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library "
    "/venv/onnxruntime/capi/libonnxruntime_providers_cuda.so with error: {}\n"
    "[W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 CreateExecutionProviderFactory"
    "Instance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. Please "
    "install all dependencies, and that your GPU is supported."
)
CALL = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, "
    "void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE "
    "= cudaError; bool THRW = true] {} ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/onnxruntime/"
    "core/providers/cuda/cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice("
    "info_.device_id); \n"
)
ABSENT = "cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    "name", ["libcublasLt.so.13", "libcudnn.so.9", "libcudnn_adv.so.9", "libcudart.so.13"]
)
def test_a_missing_library_is_named_with_what_brings_it(name: str) -> None:
    lack = explain(LOAD.format(f"{name}: {ABSENT}"))
    assert (lack.what, lack.advice) == (f"{name} is missing", INSTALL)


@pytest.mark.parametrize("name", ["libcuda.so.1", "libnvidia-ml.so.1"])
def test_a_library_of_the_driver_is_the_driver(name: str) -> None:
    assert explain(LOAD.format(f"{name}: {ABSENT}")) == NO_DRIVER


def test_a_library_of_another_version() -> None:
    file = "/venv/onnxruntime/capi/libonnxruntime_providers_cuda.so"
    lack = explain(LOAD.format(f"{file}: undefined symbol: cuTensorMapEncodeTiled"))
    assert "of another version" in lack.what


@pytest.mark.parametrize(
    ("said", "what", "advice"),
    [
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
            "CUDA driver version is insufficient for CUDA runtime version",
            "newer NVIDIA driver",
        ),
        (
            "CUDA failure 100: no CUDA-capable device is detected",
            "no CUDA-capable device is detected",
            "--gpus all",
        ),
        (
            "CUDA failure 209: no kernel image is available for execution on the device",
            "no kernel image is available for execution on the device",
            "older than",
        ),
        ("CUDA failure 2: out of memory", "the GPU has too little free memory", "smaller"),
        (
            "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED",
            "CUDNN_STATUS_NOT_INITIALIZED",
            "nvidia-smi",
        ),
    ],
)
def test_what_the_runtime_refuses(said: str, what: str, advice: str) -> None:
    lack = explain(CALL.format(said))
    assert lack.what == what
    assert advice in lack.advice


def test_a_model_that_is_too_large() -> None:
    said = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
        "bfc_arena.cc:342 onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory "
        "for requested buffer of size 765249024"
    )
    assert explain(said).what == "the GPU has too little free memory"


def test_windows_names_no_library() -> None:
    said = (
        'FAIL : LoadLibrary failed with error 126 "" when trying to load "C:\\x\\onnxruntime\\'
        'capi\\onnxruntime_providers_cuda.dll"'
    )
    assert explain(said).advice == INSTALL


def test_an_onnxruntime_without_cuda() -> None:
    said = (
        "UserWarning: Specified provider 'CUDAExecutionProvider' is not in available provider "
        "names.Available providers: 'AzureExecutionProvider, CPUExecutionProvider'"
    )
    assert explain(said) == NOT_BUILT


@pytest.mark.parametrize("said", ["", "Segmentation fault"])
def test_what_is_not_known_is_still_told_with_advice(said: str) -> None:
    assert explain(said) == UNKNOWN


def test_each_lack_is_one_line() -> None:
    for said in (LOAD.format(f"libcudnn.so.9: {ABSENT}"), CALL.format("CUDA failure 999: x")):
        assert "\n" not in str(explain(said))
