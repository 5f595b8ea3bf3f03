"""What is refused before anything is measured. Messages say place, rule, value and next step."""

from collections.abc import Iterable

from harness.errors import UsageError


def not_allowed(option: str, value: str, allowed: Iterable[str]) -> UsageError:
    """An option's value that is none of the allowed ones."""
    return UsageError(f"{option}: must be one of {', '.join(allowed)} (got {value!r})")
