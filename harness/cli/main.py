"""Entry point of `harness`: finds the command, turns HarnessError into a message and its exit code.

Commands are imported only when called, so that `harness --help` answers at once.
"""

import signal
import sys

import click

from harness.cli.lazy import LazyGroup
from harness.errors import HarnessError

COMMANDS = {
    "run": ("harness.cli.run:run", "Run a scenario: plan, measure, record, report."),
    "plan": (
        "harness.cli.plan:plan",
        "Show the cells of a scenario and what is dropped and why; run nothing.",
    ),
    "report": ("harness.cli.report:report", "Write HTML, Markdown and plots from one run or several."),
    "serve": ("harness.cli.serve:serve", "Serve a model with our runtime over an OpenAI-compatible HTTP API."),
    "profile": (
        "harness.cli.profile:profile",
        "Show where the time of a scenario's cells goes, range by range, under nsys and the torch profiler.",
    ),
    "compare": (
        "harness.cli.compare:compare",
        "Set runs side by side: ratio, interval and verdict, across machines, commits, precisions.",
    ),
    "gate": (
        "harness.cli.gate:gate",
        "Hold a run against its baseline, or two commits against each other; for CI.",
    ),
    "export": ("harness.cli.exchange:export", "Write a run as vLLM's, AIPerf's or Benchmark Report's JSON."),
    "import": ("harness.cli.exchange:import_", "Read a result of `vllm bench serve` or AIPerf as a run."),
    "project": (
        "harness.cli.project:project",
        "Project speed and memory on GPUs that were not measured, and show the error of doing so.",
    ),
    "claims": (
        "harness.cli.claims:claims",
        "Hold the claims of a scenario against records, arithmetic and projections.",
    ),
    "advise": (
        "harness.cli.advise:advise",
        "Advise which precision and kernel to use on a GPU for a load and latency limits.",
    ),
    "kernels": (
        "harness.cli.kernels:kernels",
        "Show which kernels exist, which is taken on a GPU and why; time them and tune the choice.",
    ),
    "selfcheck": (
        "harness.cli.selfcheck:selfcheck",
        "Measure the load client itself: its true error and capacity on this machine.",
    ),
    "doctor": (
        "harness.cli.doctor:doctor",
        "Show what this machine has, what is missing and what to do about it.",
    ),
}
"""Command -> ("module:object", line of help)."""


@click.group(cls=LazyGroup, lazy_commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fp4moe-harness")
def cli() -> None:
    """Measure FP4 Mixture-of-Experts models: speed, memory, quality and routing from one run of the same weights.

    Exit codes: 0 ok, 1 regression, 2 usage or scenario error, 3 invalid or nothing measured,
    4 baseline missing or not comparable, 5 infrastructure failure.
    """


def main() -> None:
    """Run the command line; every expected failure ends in one message and its documented exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: records kept, worker ended
    try:
        cli.main(standalone_mode=False)
    except HarnessError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(5)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
