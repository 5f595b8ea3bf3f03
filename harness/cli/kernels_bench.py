"""`harness kernels bench`: one MoE layer through every kernel that runs here, against the roofline and installed peers."""

from pathlib import Path

import click

from harness.cli.options import json_option, print_json

TOKENS = "1,2,4,8,16,32,64,128,256,512,1024,2048,4096"
CPU_TOKENS = "1,2,4,8,16"


@click.command()
@click.option("model", "--model", metavar="NAME|PATH", default="mixtral-8x7b", show_default=True,
              help="Whose layer: mixtral-8x7b, pocket-mixtral, or the path of a Mixtral checkpoint.")  # fmt: skip
@click.option("tokens", "--tokens", metavar="N,N,...", help=f"Token counts. Default: {TOKENS} ({CPU_TOKENS} without a GPU).")
@click.option("precisions", "--precision", multiple=True, metavar="ID",
              help="Weight x activation format, such as nvfp4-a16. Repeatable. Default: nvfp4-a16 and mxfp4-a16.")  # fmt: skip
@click.option("routing", "--routing", default="uniform", show_default=True, metavar="HOW",
              help="uniform, zipf[:S], hot70 (70 % of the slots on two experts), recorded:FILE (replayed).")  # fmt: skip
@click.option("kernels", "--kernel", multiple=True, metavar="NAME",
              help="Only this implementation. Repeatable. Default: all that run here, without the reference.")  # fmt: skip
@click.option("peers", "--peers", is_flag=False, flag_value="all", metavar="[NAME,...]",
              help="Other projects' kernels too, where installed: all, or vllm-marlin,triton-kernels,humming,vllm-fp8,"
                   "vllm-bf16.")  # fmt: skip
@click.option("seed", "--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Of weights, x and ids.")
@click.option("copies", "--copies", type=click.IntRange(1, 4096),
              help="Copies of the layer that a timed run goes through. Default: past four times the L2 cache.")  # fmt: skip
@click.option("repeats", "--repeats", default=15, show_default=True, type=click.IntRange(1, 1000), help="Samples a figure.")
@click.option("out", "--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option("check_only", "--check-only", is_flag=True, help="Only hold the kernels against the reference; time nothing.")
@click.option("render", "--render", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
              help="Measure nothing: draw tables and plots of a folder again.")  # fmt: skip
@json_option
def bench(render: Path | None, out: Path | None, as_json: bool, **asked):
    """Correctness, then time a layer, of every kernel for one shape, over token counts.

    Ends with a table; the folder has bench.json, rows.jsonl, table.md, roofline.png and latency.png.
    """
    from harness.kernel_bench.command import measure, render_folder, show

    result = render_folder(render) if render is not None else measure(out=out, **asked)
    if as_json:
        print_json({"folder": str(result.folder), "bench": result.info, "rows": result.rows})
    else:
        show(result)
    result.raise_if_nothing()
