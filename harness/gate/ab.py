"""`harness gate SCENARIO --ab COMMIT_OR_CONFIG`: two sides on one machine, interleaved, then judged.

In: a scenario, and what the baseline is: a commit (a git worktree of it, with its own sources), another scenario file, or
KEY=VALUE overrides of this one. Out: a folder with two runs, `baseline/` and `candidate/`, and the GateResult.
The candidate is always the tree that this command runs from, uncommitted changes included.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.gate.decide import GateResult, decide
from harness.gate.interleave import Tell, measure_in_turn
from harness.gate.sides import Side, Tree
from harness.gate.worktree import checkout, own_tree
from harness.report.data import load
from harness.scenario import Scenario, load_scenario
from harness.scenario.gates import GateSpec


@dataclass(frozen=True, slots=True)
class AbOptions:
    """What the command line says of an A/B comparison."""

    scenario_path: Path
    overrides: tuple[str, ...]
    only: str | None
    out: Path


def run_ab(against: str, options: AbOptions, tell: Tell) -> GateResult:
    """Measure and judge; raises HarnessError subclasses with their exit codes."""
    scenario = load_scenario(options.scenario_path, options.overrides)
    with baseline_of(against, options) as (tree, baseline_scenario):
        return run_trees(tree, own_tree(), options, tell, scenarios=(baseline_scenario, scenario))


@contextlib.contextmanager
def baseline_of(against: str, options: AbOptions) -> Iterator[tuple[Tree, Scenario]]:
    """The tree and scenario that `--ab` names."""
    if against.endswith((".yaml", ".yml")):
        yield own_tree_named(against), load_scenario(Path(against), options.overrides)
    elif re.match(r"^[A-Za-z_][\w.\[\]]*=", against):
        changes = tuple(part for part in against.split(",") if part)
        yield own_tree_named(against), load_scenario(options.scenario_path, (*options.overrides, *changes))
    else:
        with checkout(against) as tree:
            yield tree, load_scenario(options.scenario_path, options.overrides)


def own_tree_named(config: str) -> Tree:
    """The same sources under another configuration."""
    return Tree(own_tree().root, config)


def run_trees(a: Tree, b: Tree, options: AbOptions, tell: Tell, *, scenarios: tuple[Scenario, Scenario]) -> GateResult:
    """Interleave two trees and judge b, the candidate, by the gates of its scenario."""
    spec = scenarios[1].gates or GateSpec()
    ids = f"{options.out.name}-baseline", f"{options.out.name}-candidate"
    folders = options.out / "baseline", options.out / "candidate"
    with Side(a, folders[0]) as side_a, Side(b, folders[1]) as side_b:
        cells = []
        for side, scenario, own, partner in ((side_a, scenarios[0], *ids), (side_b, scenarios[1], *ids[::-1])):
            tell(f"planning {side.tree.label} ...")
            cells.append(side.prepare(plain(scenario), only=options.only, run_id=own, partner=partner))
        measure_in_turn(side_a, side_b, *cells, spec, tell)
    return decide(load(folders[0]), load(folders[1]), spec)


def plain(scenario: Scenario) -> dict:
    """What the user wrote, as JSON data, without `gates`: an older commit may not know what was added since."""
    return scenario.model_dump(mode="json", exclude_unset=True, exclude={"gates"})
