"""What `python -m fp4moe.runtime.gpu.check` looks at, one file a subject. Every function gives lines: dicts with `passed`.

Reading order: serving (prompts, requests, tokens) -> forced (the reference under given experts, and the bounds) -> agreement
(tokens, logits, perplexity, routing) -> sameness (graphs, steps, neighbours) -> faults -> mixtral (memory, cost of recording)
-> random_folder, host -> load (speed and host memory of loading a folder).
"""
