"""Check the GPU engine against the plain one on this GPU: `python -m fp4moe.runtime.gpu.check [--only PART]`.

pocket-mixtral in four precisions: tokens, logits, perplexity, routing, launches, faults (checks/); Mixtral-8x7B with random
weights: memory and the cost of recording; checkpoints of its shape with few layers, from disk: speed and host memory of loading
(17 GB are written, 7 at a time, and removed). One JSON object a line; the exit code is 1 when a line has passed = false. Times
are printed, and only recording's share and loading are judged by them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from fp4moe import pocket
from fp4moe.precision import Precision
from fp4moe.runtime.load import load_model

PRECISIONS = (
    Precision("nvfp4"),
    Precision("bf16"),
    Precision("mxfp4"),
    Precision("fp8", activations="fp8"),
)
PARTS = ("mixtral", "pocket", "faults", "load")
NUM_PROMPTS = 24


def mixtral() -> Iterator[dict]:
    """First, for it needs to know what was used before CUDA was started."""
    from fp4moe.runtime.gpu.checks.mixtral import check_mixtral, used_bytes_by_gpu

    yield from check_mixtral(used_bytes_by_gpu())


def pocket_mixtral() -> Iterator[dict]:
    """Numbers in every precision; what launches may not change in the first."""
    from fp4moe.runtime.gpu.checks import agreement, sameness, serving

    ids = serving.heldout_ids()
    prompts = serving.prompts(ids, NUM_PROMPTS)
    yield from sameness.check_codes(torch.device("cuda"))
    yield sameness.check_imposed_weights(torch.device("cuda"))
    for precision in PRECISIONS:
        model = load_model(pocket.checkpoint_dir(), precision, device="cuda:0", allow_reference=False)
        variants = ({}, {"use_graphs": False}, {"step_tokens": 128}, {"max_slots": 1}) if precision == PRECISIONS[0] else ({},)
        lines = [agreement.check_tokens(model, prompts, **options) for options in variants]
        lines.append(agreement.check_scoring(model, ids))
        if precision == PRECISIONS[0]:
            lines += [sameness.check_sampling(model, ids), sameness.check_imposed(model, prompts[:8])]
        for line in (line for part in lines for line in part):
            yield {"precision": precision.id} | line


def faults() -> Iterator[dict]:
    """Bad input and ten thousand requests, in NVFP4."""
    from fp4moe.runtime.gpu.checks import faults as look
    from fp4moe.runtime.gpu.checks import serving

    ids = serving.heldout_ids()
    prompts = serving.prompts(ids, 8)
    model = load_model(pocket.checkpoint_dir(), PRECISIONS[0], device="cuda:0", allow_reference=False)
    yield from look.check_requests(model, prompts)
    yield look.check_nan(model, prompts)
    yield look.check_one_nan(model)
    yield look.check_many(model)
    yield from look.check_out_of_memory(model, ids)


def loading(folder: Path | None = None, num_layers: int | None = None) -> Iterator[dict]:
    """Checkpoints written to `folder` (None: the system's temporary one); the largest has `num_layers` layers."""
    from fp4moe.runtime.gpu.checks import load

    yield from load.check_loading(torch.device("cuda:0"), folder, num_layers=num_layers or load.LAYERS)


RUNS: dict[str, Callable[..., Iterator[dict]]] = {
    "mixtral": mixtral,
    "pocket": pocket_mixtral,
    "faults": faults,
    "load": loading,
}


def report(runs: dict[str, Callable[[], Iterator[dict]]]) -> int:
    """Print every line; the number that failed. A part that raises is a failed line, and the others still run."""
    num_failed = num_lines = 0
    for part, run in runs.items():
        start, lines = time.perf_counter(), run()
        while True:
            try:
                line = next(lines)
            except StopIteration:
                break
            except Exception as error:  # whatever it is, it has failed, and is said
                line = {"check": "ran to its end", "error": f"{type(error).__name__}: {error}", "passed": False}
            print(json.dumps({"part": part} | line), flush=True)
            num_failed, num_lines = num_failed + (not line["passed"]), num_lines + 1
        print(json.dumps({"part": part, "seconds": round(time.perf_counter() - start, 1)}), flush=True)
    print(json.dumps({"lines": num_lines, "failed": num_failed}))
    return num_failed


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 1 where a line did not pass, or with a sentence where nothing can be checked."""
    parser = argparse.ArgumentParser(prog="python -m fp4moe.runtime.gpu.check", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="run this part; may be given again (default: all)")
    parser.add_argument("--load-folder", type=Path, metavar="DIR", help="on the disk to load from (default: temporary)")
    parser.add_argument("--load-layers", type=int, metavar="N", help="layers of the largest checkpoint loaded (default: 7)")
    options = parser.parse_args(arguments)
    wanted = options.only or PARTS
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # read at the first allocation, as in workers
    if not torch.cuda.is_available():
        sys.exit("gpu check: needs a CUDA GPU and none was found; the tests run the same engine in Triton's interpreter")
    torch.backends.cuda.matmul.allow_tf32 = False
    runs = RUNS | {"load": partial(loading, options.load_folder, options.load_layers)}
    sys.exit(1 if report({part: runs[part] for part in PARTS if part in wanted}) else 0)


if __name__ == "__main__":
    main()
