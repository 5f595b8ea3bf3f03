"""The engine for a GPU: the same requests, the same weights, the same chosen experts as ../engine.py, without its waiting.

Reading order: cache -> attention -> passes (weights to hidden states and logits) -> memory (predicted, and what fits) ->
graphs (a decode step as one launch) -> readback -> schedule (which requests the next step serves) -> engine.
"""
