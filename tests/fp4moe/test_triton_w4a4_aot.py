"""The W4A4 kernels compiled for SM100 and SM120 without such a GPU: the FP4 tensor cores are used, and the limits are kept."""

import re

import pytest

from fp4moe.triton import w4a4_aot

# PTX of one product, name of the instruction in SASS
INSTRUCTIONS = {
    (120, "nvfp4"): (
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3",
        "OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X",
    ),
    (120, "mxfp4"): (
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0",
        "OMMA.SF.16864.F32.E2M1.E2M1.E8",
    ),
    (100, "nvfp4"): ("tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.scale_vec::4X", "UTCOMMA.4X"),
    (100, "mxfp4"): ("tcgen05.mma.cta_group::1.kind::mxf4.block_scale.scale_vec::2X", "UTCOMMA"),
}
KERNELS = [
    pytest.param(16, True, id="gate-up-decode"),
    pytest.param(128, True, id="gate-up-prefill"),
    pytest.param(64, False, id="down"),
]


def loops(sass: str) -> list[list[str]]:
    """Bodies of the loops: from a label to a later branch back to it."""
    instructions, labels, bodies = [], {}, []
    for line in sass.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line.strip()):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*)", line):
            target = re.search(r"\bBRA\b.*\((\.L_x_\d+)\)", instruction[1])
            instructions.append(instruction[1])
            if target and target[1] in labels:
                bodies.append(instructions[labels[target[1]] :])
    return bodies


def has(instructions: list[str], name: str) -> bool:
    return any(re.search(rf"\b{name}\b", instruction) for instruction in instructions)


@pytest.mark.parametrize(("tokens", "is_gated"), KERNELS)
@pytest.mark.parametrize(("capability", "format"), INSTRUCTIONS)
def test_products_run_on_the_fp4_tensor_cores(capability, format, tokens, is_gated):
    compiled = w4a4_aot.compile_grouped(format, capability, tokens=tokens, is_gated=is_gated)
    ptx, sass = compiled.asm["ptx"], w4a4_aot.sass(compiled)
    instruction, name = INSTRUCTIONS[capability, format]
    assert f".target sm_{capability}a" in ptx
    products = set(re.findall(r"(?:mma\.sync|tcgen05\.mma|wgmma)\.[\w.:]+", ptx))
    assert products == {instruction}  # nothing is multiplied in another way
    main = min((body for body in loops(sass) if has(body, re.escape(name.split(".")[0]) + r"[\w.]*")), key=len)
    assert has(main, re.escape(name))
    assert has(main, r"LDGSTS[\w.]*") and not has(main, r"LDG(\.\w+)*")  # every load of the loop is asynchronous
    assert not re.search(r"\b(LDL|STL)\b", sass)  # nothing is spilled to local memory
    assert compiled.metadata.shared <= w4a4_aot.SHARED_BYTES_SM120


@pytest.mark.parametrize("capability", [100, 120])
@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
def test_the_quantizer_divides_exactly_and_keeps_subnormals(format, capability):
    ptx = w4a4_aot.compile_quantize(format, capability).asm["ptx"]
    assert set(re.findall(r"\bdiv\.[\w.]+", ptx)) == ({"div.rn.f32"} if format == "nvfp4" else set())
    assert ".ftz" not in ptx and ".approx" not in ptx


@pytest.mark.parametrize("capability", [100, 120])
def test_the_small_kernels_compile(capability):
    for compiled in (w4a4_aot.compile_slots(capability), w4a4_aot.compile_combine(capability)):
        assert f".target sm_{capability}a" in compiled.asm["ptx"]
        assert not re.search(r"\b(LDL|STL|ATOM\w*|RED\w*)\b", w4a4_aot.sass(compiled).replace("REDUX", ""))
