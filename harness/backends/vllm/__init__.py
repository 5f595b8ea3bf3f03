"""vLLM as a backend: its engine in its own environment, driven by a small script of ours.

environment (where is a Python with vLLM) -> facts (what it could run here) -> weights (a checkpoint that it loads) ->
driver (runs there: load, score, generate) -> backend (asks the driver, makes metrics) ; log and memory read what vLLM
tells. Versions 0.24 and 0.32 are known to work; the driver asks for what differs between them and says what it did not
find.
"""
