"""The `harness` command. `main` is the entry point; each command has a file of its own, imported when it is called."""
