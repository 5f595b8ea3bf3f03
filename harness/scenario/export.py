"""Write the JSON schema of scenarios, for editors: `python -m harness.scenario.export scenarios/schema.json`."""

import json
import sys
from pathlib import Path

from harness.scenario.schema import Scenario


def schema_text() -> str:
    """The schema as it stands in scenarios/schema.json; a test compares the file with this."""
    schema = Scenario.model_json_schema()
    for name, form in (("models", "name"), ("precisions", "weights"), ("backends", "kind")):
        items = schema["properties"][name]["items"]
        schema["properties"][name]["items"] = {
            "anyOf": [items, {"type": "string", "description": f"short for {{{form}: ...}}"}]
        }
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
