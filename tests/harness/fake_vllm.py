"""A package that calls itself vllm and behaves as one, for tests of what stands around vLLM: process, protocol, bookkeeping.

In: a folder. Out: `vllm/` in it, whose engine answers token 7 and gives every prompt token log-probability -1; and a `torch`
that says a few names, since importing the real one takes seconds. How it fails is told by the environment variable FAKE_VLLM:
`no-import`, `no-load`, `no-routing`, `die` (in its third step), `memory`.
"""

from pathlib import Path

SOURCE = '''
import os
import sys
from types import SimpleNamespace as Row

MODE = os.environ.get("FAKE_VLLM", "")
__version__ = "9.9.9"
if MODE == "no-import":
    raise ImportError("libcudart.so.13: cannot open shared object file")


class SamplingParams:
    def __init__(self, **given):
        self.__dict__ |= given


class _Model:
    def named_parameters(self):
        return [("model.norm.weight", Row(nbytes=10))]

    def modules(self):
        return [Row(attn_backend=Row(get_name=lambda: "FAKE_ATTN")), FusedMoE()]


class FusedMoE:
    quant_method = SimpleMethod = Row()


class _Engine:
    def __init__(self, args):
        self.vllm_config = Row(
            cache_config=Row(num_gpu_blocks=4, block_size=16, cache_dtype="auto"),
            model_config=Row(max_model_len=args["max_model_len"], enforce_eager=True, quantization=None),
            scheduler_config=Row(max_num_seqs=args["max_num_seqs"]),
        )
        self._running, self._steps = {}, 0

    def add_request(self, name, prompt, params):
        self._running[name] = [params.max_tokens, 0]

    def step(self):
        self._steps += 1
        if MODE == "die" and self._steps == 3:
            print("CUDA error: an illegal memory access was encountered", file=sys.stderr, flush=True)
            os._exit(3)
        if MODE == "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        outputs = []
        for name, state in list(self._running.items()):
            state[1] += 1
            finished = state[1] == state[0]
            outputs.append(Row(request_id=name, outputs=[Row(token_ids=[7])], finished=finished))
            if finished:
                del self._running[name]
        return outputs


class LLM:
    def __init__(self, model, **args):
        print("INFO [nvfp4.py:1] Using 'MARLIN' NvFp4 MoE backend out of potential backends: ['A', 'MARLIN'].", file=sys.stderr)
        if MODE == "no-load":
            raise ValueError("1 validation error for VllmConfig\\n  Value error, no such layout [type=value_error, x]")
        self._routes = args.get("enable_return_routed_experts", False)
        if MODE == "no-routing" and self._routes:
            raise NotImplementedError("routed experts need another runner")
        self.llm_engine = _Engine(args)

    def apply_model(self, function):
        return [function(_Model())]

    def generate(self, prompts, params, use_tqdm):
        return [self._scored(prompt["prompt_token_ids"]) for prompt in prompts]

    def _scored(self, ids):
        import numpy

        places = [{token: Row(logprob=-1.0, rank=2), 7: Row(logprob=-0.5, rank=1)} for token in ids[1:]]
        routed = numpy.tile(numpy.array([0, 1]), (len(ids), 5, 1)) if self._routes else None
        return Row(prompt_token_ids=ids, prompt_logprobs=[None, *places], outputs=[Row(routed_experts=routed)])
'''
TORCH = """
from types import SimpleNamespace
__version__ = "0"
cuda = SimpleNamespace(is_available=lambda: False)
get_num_threads = lambda: 1
"""
KINDS = "class RequestOutputKind:\n    DELTA = 1\n"


def write_fake_vllm(folder: Path) -> Path:
    """The folder to put on PYTHONPATH."""
    package = folder / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE)
    (package / "sampling_params.py").write_text(KINDS)
    (folder / "torch.py").write_text(TORCH)
    return folder
