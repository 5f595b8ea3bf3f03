"""Logits of whole sequences by the arithmetic of the engine that serves: one function for quality cells and for the server.

In: a loaded model, token ids [B, T]. Out: causal logits float32 [B, T, V]. SCORERS has a row an engine: the plain engine's
arithmetic is the model's own; the GPU engine's passes are kept, and made anew for a longer sequence. Serves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fp4moe.runtime import MixtralModel, RoutingRecorder, engine_here

Score = Callable[[Tensor, RoutingRecorder | None], Tensor]


class NativeScorer:
    """The scorer of one model. Not thread-safe: one caller at a time, as an engine has."""

    def __init__(self, model: MixtralModel) -> None:
        self._model = model
        self._score: Score | None = None

    def __call__(self, tokens_BT: Tensor, recorder: RoutingRecorder | None = None) -> Tensor:
        """Logits [B, T, V]; with `recorder`, phase "score" and `request` = row."""
        if self._score is None:
            self._score = SCORERS[engine_here(self._model).row.name](self._model)
        return self._score(tokens_BT, recorder)


def _gpu_scorer(model: MixtralModel) -> Score:
    from fp4moe.runtime.gpu.passes import DecoderPasses
    from fp4moe.runtime.gpu.scoring import score

    passes: list[DecoderPasses] = []

    def call(tokens_BT: Tensor, recorder: RoutingRecorder | None) -> Tensor:
        length = tokens_BT.shape[1]
        if not passes or passes[0].max_context < length:
            passes[:] = [DecoderPasses(model, max_context=length)]
        return score(passes[0], tokens_BT, recorder)

    return call


SCORERS: dict[str, Callable[[MixtralModel], Score]] = {"gpu": _gpu_scorer, "plain": lambda model: model.score}
"""By name of the engine, as `fp4moe.runtime.engines.ENGINES` has them."""
