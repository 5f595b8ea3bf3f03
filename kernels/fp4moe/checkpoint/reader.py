"""A Mixtral checkpoint folder, read one tensor at a time.

In: a folder in Hugging Face layout, sharded or not, unquantized or in a layout of storages.py. Out: plain
tensors and expert matrices, shapes checked against config.json, values checked to be finite, nothing
requantized. Tensors are mapped from their files as they are asked for; from `streamed` they come read ahead, on
any device, and are checked there. Attention quantized by others is dequantized to BF16, as only experts run in
their stored format here. Bad input is a CheckpointError (a FormatError for NaN and inf) with file, tensor, value found and what
is allowed.

Shapes: [F, D] w1 (gate) and w3 (up), [D, F] w2 (down).
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fp4moe.checkpoint.expected import DOWN, EXPERT_MATRICES, GATE, UP, Sizes, expert_module
from fp4moe.checkpoint.quantization_config import detect_storage
from fp4moe.checkpoint.shards import Shards, read_json
from fp4moe.checkpoint.stack import stack_experts, stack_gate_up
from fp4moe.checkpoint.storages import STORAGES, UNQUANTIZED, Storage, load_plain
from fp4moe.checkpoint.stream import StreamedShards
from fp4moe.errors import CheckpointError
from fp4moe.formats import IMPORTED
from fp4moe.layouts import QuantizedTensor
from fp4moe.quantize import check_finite, dequantize

METHOD_KEY = "fp4moe_method"  # safetensors metadata: the quantizer that wrote the file
_FLOATS = ("BF16", "F16", "F32")
_SHOWN_PROBLEMS = 8


def open_checkpoint(path: Path | str) -> "Checkpoint":
    """Open a folder: config.json and the headers of the weight files are read, no tensor data."""
    folder = Path(path)
    shards = Shards.open(folder)
    config = read_json(folder / "config.json")
    sizes = Sizes.from_config(config, str(folder / "config.json"))
    return Checkpoint(folder, config, detect_storage(folder, config).name, sizes, shards)


def read_hf(path: Path | str) -> Iterator[tuple[str, Tensor | QuantizedTensor]]:
    """Every (name, value) of a checkpoint in model order: plain tensors, then experts as QuantizedTensors."""
    checkpoint = open_checkpoint(path)
    for name in checkpoint.sizes.plain_shapes():
        yield name, checkpoint.tensor(name)
    for layer, expert in checkpoint.sizes.experts():
        for matrix in EXPERT_MATRICES:
            yield f"{expert_module(layer, expert, matrix)}.weight", checkpoint.expert(layer, expert, matrix)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened folder. `config` is config.json as it stands; `storage` is a key of storages.STORAGES."""

    path: Path
    config: dict
    storage: str
    sizes: Sizes
    shards: Shards | StreamedShards

    @contextmanager
    def streamed(self, device: torch.device, modules: Iterable[str] | None = None) -> Iterator["Checkpoint"]:
        """This checkpoint with its tensors read ahead to `device`, in the order of `modules` (default: that of `validate`).

        A module is a name without ".weight". Another order than announced is right, and slow. Check headers first.
        """
        shapes = self._module_shapes()
        modules = shapes if modules is None else modules
        names = (name for module in modules for name in self._part_names(module, shapes[module]))
        shards = StreamedShards(self.shards, names, device)
        try:
            yield replace(self, shards=shards)
        finally:
            shards.close()

    def names(self) -> tuple[str, ...]:
        """Every stored tensor, sorted."""
        return tuple(sorted(self.shards.tensors))

    def tensor(self, name: str) -> Tensor:
        """A tensor that is not an expert, checked, as stored; BF16 where its module is quantized."""
        shape = self.sizes.plain_shapes().get(name)
        module = name.removesuffix(".weight")
        storage = self._storage_of(module)
        if storage is not UNQUANTIZED and shape is not None:
            return dequantize(self._matrix(module, shape), torch.bfloat16)
        if shape is not None:
            self._raise_first(self._plain_problems(name, shape))
        tensor = self.shards.read(name)
        if self.shards.find(name).dtype in _FLOATS:
            check_finite(tensor.reshape(1, -1), self.place(name))
        return tensor

    def expert(self, layer: int, expert: int, matrix: str) -> QuantizedTensor:
        """One checked expert matrix ("w1", "w2" or "w3") as stored; format bf16 where not quantized."""
        if matrix not in EXPERT_MATRICES:
            raise CheckpointError(f"expert: matrix must be one of {', '.join(EXPERT_MATRICES)} (got {matrix!r})")
        return self._matrix(expert_module(layer, expert, matrix), self.sizes.expert_shape(matrix))

    def layer_experts(self, layer: int) -> tuple[QuantizedTensor, QuantizedTensor]:
        """All experts of a layer: gate and up [E, 2F, D], down [E, D, F]."""
        ids = range(self.sizes.num_experts)
        gate_up = [stack_gate_up(self.expert(layer, e, GATE), self.expert(layer, e, UP)) for e in ids]
        return stack_experts(gate_up), stack_experts([self.expert(layer, e, DOWN) for e in ids])

    def input_scale(self, layer: int, expert: int, matrix: str) -> float | None:
        """The calibrated NVFP4 activation scale stored with an expert, as a multiplier, or None."""
        storage = STORAGES[self.storage]
        name = f"{expert_module(layer, expert, matrix)}.{storage.input_scale}"
        return storage.load_input_scale(self.shards.read(name)) if name in self.shards.tensors else None

    def validate(self) -> None:
        """Check names, shapes, dtypes, then all values; CheckpointError or FormatError say what is wrong."""
        self.validate_headers()
        with self.streamed(torch.device("cpu")) as checkpoint:
            for name in self.sizes.plain_shapes():
                checkpoint.tensor(name)
            for layer, expert in self.sizes.experts():
                for matrix in EXPERT_MATRICES:
                    checkpoint.expert(layer, expert, matrix)

    def validate_headers(self) -> None:
        """As `validate`, without reading data; the error lists the first problems and their number."""
        modules = self._module_shapes().items()
        self._raise_first([p for module, shape in modules for p in self._module_problems(module, shape)])

    def sha256(self) -> str:
        """Hash of names, dtypes, shapes and bytes of all tensors; does not depend on how they are sharded."""
        digest = hashlib.sha256()
        for name in self.names():
            stored = self.shards.find(name)
            digest.update(f"{name} {stored.dtype} {list(stored.shape)}\n".encode())
            digest.update(self.shards.read(name).contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def raw_expert(self, layer: int, expert: int, matrix: str) -> Tensor:
        """An unquantized expert matrix in the dtype it is stored in; checked like `expert`."""
        module, shape = expert_module(layer, expert, matrix), self.sizes.expert_shape(matrix)
        self._raise_first(self._plain_problems(f"{module}.weight", shape))
        tensor = self.shards.read(f"{module}.weight")
        check_finite(tensor, self.place(f"{module}.weight"))
        return tensor

    def place(self, name: str) -> str:
        """File and tensor, as errors name them."""
        return f"{self.shards.find(name).file}: {name}"

    def _module_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every module that must be there with its logical shape, experts last."""
        modules = {name.removesuffix(".weight"): shape for name, shape in self.sizes.plain_shapes().items()}
        for layer, expert in self.sizes.experts():
            for matrix in EXPERT_MATRICES:
                modules[expert_module(layer, expert, matrix)] = self.sizes.expert_shape(matrix)
        return modules

    def _part_names(self, module: str, shape: tuple[int, ...]) -> list[str]:
        """The stored tensors of a module, in the order in which they are read."""
        storage = self._storage_of(module)
        suffixes = ["weight"] if storage is UNQUANTIZED else [part.suffix for part in storage.parts(shape)]
        return [f"{module}.{suffix}" for suffix in suffixes]

    def _matrix(self, module: str, shape: tuple[int, int]) -> QuantizedTensor:
        self._raise_first(self._module_problems(module, shape))
        storage = self._storage_of(module)
        place = self.place(f"{module}.{storage.codes}").removesuffix(f".{storage.codes}")
        tensors = {part.suffix: self.shards.read(f"{module}.{part.suffix}") for part in storage.parts(shape)}
        if storage is UNQUANTIZED:
            return load_plain(tensors[storage.codes], f"{place}.{storage.codes}")
        method = self.shards.metadata(f"{module}.{storage.codes}").get(METHOD_KEY, IMPORTED)
        return storage.load(tensors, shape, method, place)

    def _storage_of(self, module: str) -> Storage:
        """The folder's storage if this module is quantized, else UNQUANTIZED (it may be ignored by name)."""
        storage, stored = STORAGES[self.storage], self.shards.tensors
        if storage is UNQUANTIZED or f"{module}.{storage.scales}" in stored:
            return storage
        weight = stored.get(f"{module}.weight")
        if weight is None:  # an incomplete module: say what an expert, and only an expert, should have here
            return storage if ".experts." in module else UNQUANTIZED
        return UNQUANTIZED if weight.dtype in _FLOATS else storage

    def _module_problems(self, module: str, shape: tuple[int, int]) -> list[str]:
        storage = self._storage_of(module)
        if storage is UNQUANTIZED:
            return self._plain_problems(f"{module}.weight", shape)
        return self._part_problems(module, shape, storage)

    def _plain_problems(self, name: str, shape: tuple[int, ...]) -> list[str]:
        return self._problems(name, _FLOATS, (shape,))

    def _part_problems(self, module: str, shape: tuple[int, int], storage: Storage) -> list[str]:
        parts = storage.parts(shape)
        return [p for part in parts for p in self._problems(f"{module}.{part.suffix}", part.dtypes, part.shapes)]

    def _problems(self, name: str, dtypes: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> list[str]:
        if name not in self.shards.tensors:
            return [f"{self.path}: {name}: missing"]
        found = self.shards.find(name)
        if found.shape not in shapes:
            allowed = " or ".join(str(list(shape)) for shape in shapes)
            return [f"{found.file}: {name}: shape must be {allowed} by config.json (got {list(found.shape)})"]
        if found.dtype not in dtypes:
            return [f"{found.file}: {name}: dtype must be {' or '.join(dtypes)} (got {found.dtype})"]
        return []

    def _raise_first(self, problems: list[str]) -> None:
        if problems:
            more = len(problems) - _SHOWN_PROBLEMS
            lines = problems[:_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
            raise CheckpointError("\n".join(lines) + "\ncompare config.json with the files, or download them again")
