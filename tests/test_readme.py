"""The README says what the committed records say, and its commands and links exist."""

import re
from pathlib import Path

import mixtral_figures
import yaml
from readme_table import BASELINE, HEAD, rows

from harness import load_run
from harness.cli.main import COMMANDS
from harness.scenario.schema import Scenario

README = Path("README.md").read_text(encoding="utf-8")


def test_perplexity_table_is_the_record():
    assert HEAD in README
    for row in rows():
        assert row in README, "run `python tests/readme_table.py` and paste its output"


def test_whole_model_table_is_the_records():
    assert mixtral_figures.HEAD in README
    for row in mixtral_figures.rows():
        assert row in README, "run `python tests/mixtral_figures.py` and paste its output"


def test_the_record_is_whole_and_valid():
    run = load_run(BASELINE)
    assert run.info["provenance"]["git_commit"] and run.info["finished_utc"]
    assert {record["verdict"]["state"] for record in run.records} == {"VALID"}
    assert len(run.records) == len(run.info["plan"]["cells"]) == 14


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert Path(target).exists(), target


def test_commands_exist():
    assert set(re.findall(r"^harness (\w+)", README, flags=re.MULTILINE)) <= set(COMMANDS)


def test_the_example_scenario_is_valid():
    text = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL).group(1)
    data = yaml.safe_load(text)
    assert Scenario.model_validate(data).name == "mine"
