"""Crossovers of a choice for people: which implementation runs how many tokens.

In: a choice as it stands in facts and records (harness.backends.selection.choice_row); records written before there were
crossovers have `chosen` alone. Out: text.
"""


def show_crossovers(row: dict, *, separator: str = "; ") -> str:
    """`1 to 128: decode; 129 and more: grouped`; the name alone where one takes every number of tokens."""
    crossovers = row.get("crossovers") or [{"max_tokens": None, "name": row["chosen"]}]
    if len(crossovers) == 1:
        return row["chosen"] + _pieces(row)
    parts, first = [], 1
    for crossover in crossovers:
        limit = crossover["max_tokens"]
        tokens = f"{first} and more" if limit is None else f"{first} to {limit}" if limit > first else f"{first}"
        parts.append(f"{tokens}: {crossover['name']}")
        first = (limit or 0) + 1
    return separator.join(parts)


def names_of(row: dict) -> list[str]:
    """Every implementation that some number of tokens takes, fewest tokens first."""
    crossovers = row.get("crossovers") or [{"name": row["chosen"]}]
    return list(dict.fromkeys(crossover["name"] for crossover in crossovers))


def _pieces(row: dict) -> str:
    """A forced row that takes few tokens is called again and again."""
    return f" (in calls of at most {row['call_tokens']} tokens)" if row.get("call_tokens") else ""
