"""Checkouts of a commit for one side of an A/B comparison, made with `git worktree` and removed afterwards.

In: a commit-ish. Out: a `Tree`. The checkout that `harness` runs from is never touched.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError
from harness.gate.sides import Tree

HERE = Path(__file__).resolve().parents[2]
"""The tree that this command runs from."""


def own_tree() -> Tree:
    """The tree that this command runs from, uncommitted changes included."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    dirty = _git("status", "--porcelain", "--untracked-files=no")
    label = "working tree" if commit is None else f"working tree ({commit}{' with uncommitted changes' if dirty else ''})"
    return Tree(HERE, label)


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Tree]:
    """A temporary worktree of `commit`; UsageError when there is no such commit or no repository."""
    found = None if commit.startswith("-") else _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not found:
        known = (
            "this is not a git checkout"
            if _git("rev-parse", "HEAD") is None
            else "no such commit here (a shallow clone lacks older ones)"
        )
        raise UsageError(f"--ab {commit!r}: {known}; give a commit, a scenario.yaml, or KEY=VALUE")
    with tempfile.TemporaryDirectory(prefix="harness-ab-") as folder:
        root = Path(folder) / found[:10]
        _git_or_fail("worktree", "add", "--detach", "--quiet", str(root), found)
        try:
            yield Tree(root, f"{commit} ({found[:10]})" if commit != found else found[:10])
        finally:
            _git("worktree", "remove", "--force", str(root))


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _git_or_fail(*arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UsageError(f"git {' '.join(arguments[:2])}: {done.stderr.strip()}")
