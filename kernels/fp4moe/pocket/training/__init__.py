"""How `pocket-mixtral` was made: corpus, tokenizer, training, evaluation.

Each module is one step and runs as a program; README.md has the order and the
command lines. Nothing here is imported by the runtime.
"""
