"""What is read from vLLM's log: lines as vLLM 0.24 (CUDA) and 0.32 (CPU) write them."""

import pytest

from harness.backends.vllm.log import read_log

# Message texts are those of vllm 0.24.0's sources: platforms/cuda.py, fused_moe/oracle/nvfp4.py, v1/core/kv_cache_utils.py.
CUDA_LOG = """\
INFO 11-25 18:00:00 [core.py:133] Initializing a V1 LLM engine (v0.24.0) with config: model='x', dtype=torch.bfloat16
DEBUG 11-25 18:00:01 [cuda.py:455] Some attention backends are not valid for cuda with AttentionSelectorConfig(head_size=64). \
Reasons: {FLASHINFER: [ImportError], TRITON_MLA: [head_size not supported, non-MLA not supported]}.
INFO 11-25 18:00:01 [cuda.py:480] Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'TRITON_ATTN'].
DEBUG 11-25 18:00:02 [nvfp4.py:270] NvFp4 MoE backend 'FLASHINFER_TRTLLM' does not support the deployment configuration since \
kernel does not support current device.
DEBUG 11-25 18:00:02 [nvfp4.py:270] NvFp4 MoE backend 'VLLM_CUTLASS' does not support the deployment configuration.
INFO 11-25 18:00:02 [nvfp4.py:265] Using 'MARLIN' NvFp4 MoE backend out of potential backends: ['FLASHINFER_TRTLLM', \
'VLLM_CUTLASS', 'MARLIN', 'EMULATION'].
INFO 11-25 18:00:09 [gpu_model_runner.py:5256] Model loading took 24.52 GiB memory and 12.345678 seconds
INFO 11-25 18:00:10 [kv_cache_utils.py:1300] GPU KV cache size: 1,234,560 tokens
INFO 11-25 18:00:20 [gpu_model_runner.py:6656] Graph capturing finished in 9 secs, took 0.61 GiB
"""
CPU_LOG = """\
(MainProcess pid=1) INFO 11-25 19:47:25 [v1/engine/core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='x'
(MainProcess pid=1) DEBUG 11-25 19:47:25 [oracle/unquantized.py:367] Unquantized MoE backend CPU does not support the \
deployment configuration since kernel does not support current device cpu.
(MainProcess pid=1) INFO 11-25 19:47:25 [oracle/unquantized.py:364] Using CPU Unquantized MoE backend out of potential \
backends: ['CPU'].
(MainProcess pid=1) INFO 11-25 19:47:26 [oracle/unquantized.py:529] Using CPUUnquantizedExperts MoE backend
(MainProcess pid=1) INFO 11-25 19:47:26 [v1/core/kv_cache_utils.py:2327] CPU KV cache size: 419,328 tokens, Maximum concurrency
"""


def test_cuda_log():
    found = read_log(CUDA_LOG)
    assert found.version == "0.24.0"
    assert found.moe.chosen == "MARLIN"
    assert found.moe.candidates == ("FLASHINFER_TRTLLM", "VLLM_CUTLASS", "MARLIN", "EMULATION")
    reason = "kernel does not support current device"
    assert found.moe.passed_over == (("FLASHINFER_TRTLLM", reason), ("VLLM_CUTLASS", "no reason given"))
    assert found.attention.chosen == "FLASH_ATTN"
    assert found.attention.candidates == ("FLASH_ATTN", "TRITON_ATTN")
    assert dict(found.attention.passed_over)["TRITON_MLA"] == "head_size not supported, non-MLA not supported"
    assert (found.kv_cache_tokens, found.weights_gib, found.graphs_gib) == (1_234_560, 24.52, 0.61)


def test_cpu_log_where_one_kernel_of_the_chosen_backend_was_refused():
    found = read_log(CPU_LOG)
    assert (found.version, found.moe.chosen, found.moe.candidates, found.moe.passed_over) == ("0.32.0", "CPU", ("CPU",), ())
    assert found.attention is None and found.kv_cache_tokens == 419_328


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("INFO [mxfp4.py:390] Using 'MARLIN' Mxfp4 MoE backend.", id="no-candidates-told"),
        pytest.param(
            "INFO [fp8.py:268] Using MARLIN Fp8 MoE backend out of potential backends: ['TRITON', 'MARLIN'].", id="fp8"
        ),
    ],
)
def test_other_formats(line):
    assert read_log(line).moe.chosen == "MARLIN"


def test_the_line_of_a_forced_attention_backend():
    assert read_log("INFO 11-25 [cuda.py:420] Using AttentionBackendEnum.FLASH_ATTN backend.").attention.chosen == "FLASH_ATTN"


def test_nothing_is_guessed():
    found = read_log("INFO something else happened\n")
    assert (found.version, found.moe, found.attention, found.kv_cache_tokens) == (None, None, None, None)
