"""A scenario: what a YAML file asks to be measured.

YAML text -> `load_scenario` -> `Scenario` (frozen, complete, every default filled in) -> `harness.plan`.
"""

from harness.scenario.load import load_scenario
from harness.scenario.schema import Scenario

__all__ = ["Scenario", "load_scenario"]
