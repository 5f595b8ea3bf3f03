"""What stands for the bytes of random weights on a GPU in their hash: everything that they follow from, and nothing else."""

import hashlib
from dataclasses import replace

import pytest
import torch

from fp4moe.precision import Precision
from fp4moe.runtime import MIXTRAL_8X7B
from fp4moe.runtime.digest import SeedDigest
from fp4moe.runtime.random_weights import RandomSource

SOURCE = RandomSource(MIXTRAL_8X7B, 3, torch.device("cuda"))
NVFP4 = Precision("nvfp4")


def test_the_same_source_has_the_same_hash_and_tensors_add_nothing():
    digest = SeedDigest(SOURCE.identity(NVFP4))
    digest.add("embedding", torch.ones(3))
    again = RandomSource(MIXTRAL_8X7B, 3, torch.device("cuda", 1))
    assert digest.hexdigest() == SeedDigest(again.identity(NVFP4)).hexdigest()
    assert digest.hexdigest() == hashlib.sha256(SOURCE.identity(NVFP4).encode()).hexdigest()


@pytest.mark.parametrize(
    ("source", "precision"),
    [
        pytest.param(replace(SOURCE, seed=4), NVFP4, id="seed"),
        pytest.param(replace(SOURCE, config=replace(MIXTRAL_8X7B, num_layers=31)), NVFP4, id="shape"),
        pytest.param(replace(SOURCE, device=torch.device("cpu")), NVFP4, id="kind-of-device"),
        pytest.param(SOURCE, Precision("mxfp4"), id="format"),
    ],
)
def test_what_changes_weights_changes_the_hash(source, precision):
    assert SeedDigest(source.identity(precision)).hexdigest() != SeedDigest(SOURCE.identity(NVFP4)).hexdigest()


def test_activations_do_not_change_weights_nor_the_hash():
    assert SOURCE.identity(Precision("nvfp4", activations="fp8")) == SOURCE.identity(NVFP4)
