"""Everything that is computed from the committed records and committed again: `python tests/projection_figures.py`.

Writes harness/data/calibration.json, the tables of docs/projection.md between their marks, and the report of the article's
claims. Run it after a record under results/baselines was added or changed; tests/harness/test_project_export.py says when.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.claims import judge_scenario
from harness.project import export, loo
from harness.project.curves import all_curves, data_file, find_curves
from harness.project.experts import Routing
from harness.project.gpus import gpu_spec
from harness.project.layer import LayerModel
from harness.project.layer_errors import left_out_errors, mean_abs_pct
from harness.project.loo import LayerError, ModelError
from harness.project.sharpness import SHARPNESSES, sharpness_without, shipped_sharpness, todays
from harness.scenario import load_scenario

PAGE = Path("docs/projection.md")
CLAIMS = Path("scenarios/article-claims.yaml")
REPORT = Path("results/baselines/article-claims")
PAIRS = (("H100", "H200"), ("H200", "H100"))
OPEN_TOKENS = (1, 4, 16, 64, 256, 1024, 4096)


def layer_lines(source: str, target: str) -> list[str]:
    """Error of one layer in percent, a row a kernel; in brackets what does not count."""
    rows = loo.layer_errors(source, target)
    counts = sorted({row.tokens for row in rows})
    lines = [f"| {source} → {target} | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 1) + "|"]
    for name in dict.fromkeys(row.name for row in rows):
        found = {row.tokens: row for row in rows if row.name == name}
        cells = [_cell(found.get(tokens)) for tokens in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(row: LayerError | None) -> str:
    if row is None:
        return ""
    return f"{row.error_pct:+.1f}" if row.counts else f"({row.error_pct:+.0f})"


def summary_lines() -> list[str]:
    """Mean, nine of ten, largest error, by direction and kind."""
    lines = ["| calibrated on → predicted | what | n | mean | nine of ten within | largest | aim |", "|---" * 7 + "|"]
    for source, target in PAIRS:
        layers = [row for row in loo.layer_errors(source, target) if row.counts]
        steps = loo.decode_errors(source, target)
        groups = (
            ("a layer, up to 128 tokens", [row for row in layers if row.tokens <= loo.DECODE_TOKENS], ""),
            ("a layer, more tokens", [row for row in layers if row.tokens > loo.DECODE_TOKENS], ""),
            ("a decode step", [row for row in steps if row.what == "tpot"], "10 %"),
            ("a first token", [row for row in steps if row.what == "ttft"], "15 %"),
        )
        lines += [_summary(f"{source} → {target}", what, rows, aim) for what, rows, aim in groups if rows]
    recorded = loo.recorded_errors()
    for target in dict.fromkeys(row.target for row in recorded):
        ours = [row for row in recorded if row.target == target]
        groups = (
            ("a whole model's run, measured", [row for row in ours if row.what != "ttft"], "10 %"),
            ("a whole model's first token, measured", [row for row in ours if row.what == "ttft"], "15 %"),
        )
        lines += [_summary(f"all but {target} → {target}", what, rows, aim) for what, rows, aim in groups if rows]
    return lines


def _summary(pair: str, what: str, rows: Sequence[LayerError | ModelError], aim: str) -> str:
    errors = np.abs([row.error_pct for row in rows])
    figures = f"{errors.mean():.1f} % | {np.quantile(errors, 0.9):.1f} % | {errors.max():.1f} %"
    return f"| {pair} | {what} | {len(errors)} | {figures} | {aim} |"


def open_lines() -> list[str]:
    """Microseconds predicted for H100 or H200 where the kernel ran on the other alone."""
    lines = [f"| kernel | predicted on | from | {' | '.join(map(str, OPEN_TOKENS))} |", "|---" * (3 + len(OPEN_TOKENS)) + "|"]
    for key in dict.fromkeys(curve.key for curve in all_curves()):
        own = find_curves(key)
        if len(own) == 1 and own[0].gpu in PAIRS[0]:
            target = gpu_spec(next(name for name in PAIRS[0] if name != own[0].gpu))
            model = LayerModel(own[0], gpu_spec(own[0].gpu), sharpness=shipped_sharpness().value)
            hits = [Routing().experts_hit(tokens) for tokens in OPEN_TOKENS]
            times = [model.predict(target, t, hit).us for t, hit in zip(OPEN_TOKENS, hits, strict=True)]
            cells = " | ".join(f"*~{us:.0f}*" for us in times)
            lines.append(f"| {key[0]} {key[1]} | {target.name} | {own[0].gpu} | {cells} |")
    return lines if len(lines) > 2 else ["None: every kernel was measured on both."]


def _place(row: ModelError) -> tuple:
    return row.target, row.engine, row.formats, row.what, row.batch, row.prompt, row.basis


def fit_lines() -> list[str]:
    """Whole models beside the model fitted to them, and, where another GPU was measured, predicted without this one."""
    blind = {_place(row): row for row in loo.recorded_errors()}
    load = ("engine", "formats", "GPU", "time", "batch", "prompt")
    headers = (*load, "measured, ms", "fitted", "error", "predicted without this GPU")
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for row in loo.fit_errors():
        other = blind.get(_place(row))
        last = "no other GPU measured" if other is None else f"{other.predicted_ms:.4g} ({other.error_pct:+.1f} %)"
        head = f"| {row.engine} | {row.formats} | {row.target} | {row.what} | {row.batch} | {row.prompt}"
        lines.append(f"{head} | {row.measured_ms:.4g} | {row.predicted_ms:.4g} | {row.error_pct:+.1f} % | {last} |")
    return lines


def sharpness_lines() -> list[str]:
    """What P is fitted to: mean errors within either GPU, and from one to the other, both ways and each."""
    names = PAIRS[0]
    own = {gpu: [curve for curve in todays(all_curves()) if curve.gpu == gpu] for gpu in names}
    headers = ("P", *(f"within {gpu}" for gpu in names), "from either to the other", *(" → ".join(pair) for pair in PAIRS))
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for p in SHARPNESSES:
        within = [mean_abs_pct(left_out_errors(curves, sharpness=p)) for curves in own.values()]
        ways = [[row for row in loo.layer_errors(*pair, sharpness=p) if row.counts] for pair in PAIRS]
        errors = [*within, mean_abs_pct([row for rows in ways for row in rows]), *map(mean_abs_pct, ways)]
        lines.append(f"| {_shown(p)} | " + " | ".join(f"{error:.2f} %" for error in errors) + " |")
    return [*lines, "", *(f"Without {gpu}: P = {_shown(sharpness_without(gpu).value)}." for gpu in names), _shipped_line()]


def _shipped_line() -> str:
    shipped = shipped_sharpness()
    return f"Shipped: P = {_shown(shipped.value)}, fitted on {' and '.join(shipped.fitted_on)}: {shipped.by}."


def _shown(sharpness: float) -> str:
    return "∞" if np.isinf(sharpness) else f"{sharpness:g}"


def published_lines() -> list[str]:
    """What others published for GPUs that were not measured here."""
    lines = ["| GPU | model | figure | conditions | source |", "|---|---|---|---|---|"]
    keys = ("gpu", "model", "figure", "conditions", "source")
    return lines + ["| " + " | ".join(point[key] for key in keys) + " |" for point in data_file("published.yaml")["points"]]


def sources_lines() -> list[str]:
    """Which records and tables calibrate what."""
    found: dict[str, list[str]] = {}
    for curve in all_curves():
        found.setdefault(f"{curve.gpu}: {curve.source}", []).append(
            f"{curve.kernel} {curve.weights}{' (STALE)' if curve.is_stale else ''}"
        )
    return [f"- {source}: {', '.join(dict.fromkeys(names))}" for source, names in found.items()]


PARTS = {
    "summary": summary_lines,
    "layers": lambda: [line for pair in PAIRS for line in [*layer_lines(*pair), ""]],
    "open": open_lines,
    "fit": fit_lines,
    "sharpness": sharpness_lines,
    "published": published_lines,
    "sources": sources_lines,
}


def page(text: str) -> str:
    """The page with every generated part written anew; ValueError where a mark is missing."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{PAGE}: the marks of {name!r} are missing")
        body = "\n".join(make()).rstrip() + "\n"
        text = pattern.sub(lambda found, body=body: found[1] + body + found[2], text)
    return text


def judged() -> list:
    """The article's claims on today's evidence."""
    return judge_scenario([claim.model_dump() for claim in load_scenario(CLAIMS).claims])


def main() -> None:
    """Write all of it."""
    from click.testing import CliRunner

    from harness.cli.claims import claims

    export.main([])
    data_file.cache_clear()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    done = CliRunner().invoke(claims, [str(CLAIMS), "--out", str(REPORT)], catch_exceptions=False)
    print(f"{PAGE}, {REPORT}: written (exit code {done.exit_code})")


if __name__ == "__main__":
    main()
