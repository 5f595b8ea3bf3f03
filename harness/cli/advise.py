"""`harness advise`: which precision and kernel to use on a GPU, and when the answer flips."""

import click

from harness.cli.options import json_option, print_json, print_table


@click.command()
@click.option("--gpu", required=True, metavar="NAME", help="A GPU of harness/data/gpus.yaml.")
@click.option("--model", default="mixtral-8x7b", show_default=True, help="mixtral-8x7b, or a folder with a config.json.")
@click.option("--prompt", default=1024, show_default=True, help="Tokens in.")
@click.option("--output", default=256, show_default=True, help="Tokens out.")
@click.option("--rate", default=1.0, show_default=True, help="Requests a second, arriving at random.")
@click.option("--slo", default="", metavar="LIMITS", help="Latency limits in ms, as ttft:500,tpot:50.")
@click.option("max_loss_pct", "--max-loss", type=float, metavar="PCT", help="Largest rise of perplexity to accept, in percent.")
@json_option
def advise(gpu, model, prompt, output, rate, slo, max_loss_pct, as_json):
    """Advise on precision and kernel: does it fit, how fast, at what cost in perplexity, and when does the answer flip.

    Speeds are projections and marked so; perplexities are records of pocket-mixtral. Nothing is measured here.
    """
    from harness.advise import advise as decide
    from harness.advise import question
    from harness.advise.show import options_table, sentence, to_json

    asked = question(gpu, model, prompt=prompt, output=output, rate=rate, slo=slo, max_loss_pct=max_loss_pct)
    advice = decide(asked)
    if as_json:
        print_json(to_json(advice))
        return
    click.echo(sentence(advice) + "\n")
    print_table(lambda: options_table(advice))
    click.echo("\nThe answer flips:")
    for line in advice.flips:
        click.echo(f"- {line}")
    click.echo("\nSources:")
    for line in advice.sources:
        click.echo(f"- {line}")
