"""The CI gate: is a run slower, larger or less exact than its baseline? With an exit code that never guesses.

    stored baseline   run + store (same machine fingerprint) -> decide -> outcomes
    A/B               two trees -> sides (one process each) -> interleave -> two runs -> decide -> outcomes
    outcomes          -> exit code, terminal, Markdown, JUnit XML, GitHub annotations, gate.json

Importing this package imports nothing; each module says what it needs.
"""
