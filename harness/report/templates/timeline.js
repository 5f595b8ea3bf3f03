/* The timeline: one canvas a cell. Draws only what is in view; at most a few rectangles a pixel, whatever the length of the run.
   Data: see harness/report/timeline/data.py; times are microseconds. No network, no library. */
(() => {
  "use strict";
  const INK = "#1b1f24", MUTED = "#57606a", RULE = "#d8dde3";
  const WAIT = "#d3d8de", PREFILL = "#1b1f24", DECODE = "#0072b2", LINE = "#0072b2", BAND = "rgba(0,114,178,.22)";
  const HUES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#a6559d", "#8c6d1f", "#3d6b35"];
  const LEFT = 158, TOP = 24, ROW = 9, DEPTH = 15, CHART = 44, GAP = 18, MIN_SPAN = 20;

  const fmt = (us) => us >= 1e6 ? (us / 1e6).toFixed(us >= 1e7 ? 2 : 3) + " s" : us >= 1e3 ? (us / 1e3).toFixed(2) + " ms" : us.toFixed(0) + " µs";
  const lower = (a, x) => { let lo = 0, hi = a.length; while (lo < hi) { const m = (lo + hi) >> 1; a[m] < x ? lo = m + 1 : hi = m; } return lo; };

  class Timeline {
    constructor(box, data) {
      this.data = data; this.box = box;
      this.full = [Math.min(0, ...(data.steps ? [data.steps.start[0]] : [])), Math.max(data.end, 1)];
      this.view = this.full.slice();
      this.lanes = this.layout();
      this.canvas = box.querySelector("canvas"); this.tip = box.querySelector(".tip");
      this.canvas.style.height = this.height + "px";
      this.listen(); this.draw();
    }
    layout() {
      const d = this.data, lanes = []; let y = TOP;
      const add = (kind, label, height, more) => { lanes.push({ kind, label, y, height, ...more }); y += height + GAP; };
      const rows = d.requests.row.reduce((a, b) => Math.max(a, b), 0) + 1, unit = Math.max(2, Math.min(ROW, 240 / rows));
      add("requests", `requests (${d.requests.row.length})`, rows * unit, { unit });
      if (d.steps) {
        add("steps", "engine steps", 16, {});
        const chart = (label, value, unit) => add("chart", label, CHART, { time: d.steps.start, value, unit, isStep: true });
        chart("requests a step", d.steps.requests, "");
        if (d.steps.hit.some((v) => v !== null)) chart("experts hit a layer", d.steps.hit, "");
      }
      if (d.ranges) {
        const depth = d.ranges.depth.reduce((a, b) => Math.max(a, b), 0) + 1;
        add("ranges", "ranges", depth * DEPTH, { depth });
      }
      for (const s of d.telemetry) add("chart", `${s.device}: ${s.label}`, CHART, { time: s.time, value: s.value, unit: s.unit });
      this.height = y + 6;
      return lanes;
    }
    x(t) { return LEFT + (t - this.view[0]) / (this.view[1] - this.view[0]) * (this.width - LEFT - 8); }
    t(x) { return this.view[0] + (x - LEFT) / (this.width - LEFT - 8) * (this.view[1] - this.view[0]); }
    draw() {
      const ratio = window.devicePixelRatio || 1;
      this.width = this.canvas.clientWidth || 900;
      this.canvas.width = this.width * ratio; this.canvas.height = this.height * ratio;
      const c = this.c = this.canvas.getContext("2d"); c.scale(ratio, ratio);
      c.clearRect(0, 0, this.width, this.height); c.font = "12px system-ui, sans-serif"; c.textBaseline = "middle";
      this.rects = 0; this.axis();
      for (const lane of this.lanes) {
        c.fillStyle = INK; c.textAlign = "left"; this.label(lane);
        c.save(); c.beginPath(); c.rect(LEFT, lane.y - 2, this.width - LEFT - 8, lane.height + 4); c.clip();
        this[lane.kind](lane); c.restore();
      }
      this.box.dataset.rects = this.rects;
    }
    label(lane) {
      const words = lane.label.split(" "), lines = [""];
      for (const w of words) { const joined = (lines.at(-1) + " " + w).trim(); if (this.c.measureText(joined).width > LEFT - 62 && lines.at(-1)) lines.push(w); else lines[lines.length - 1] = joined; }
      const y = lane.y + Math.min(lane.height, 44) / 2 - (lines.length - 1) * 7;
      lines.forEach((text, i) => this.c.fillText(text, 4, y + i * 14));
      if (lane.kind !== "chart") return;
      this.c.textAlign = "right"; this.c.fillStyle = MUTED; this.c.font = "11px system-ui, sans-serif";
      this.c.fillText(`${+this.high(lane).toPrecision(4)} ${lane.unit}`, LEFT - 5, lane.y + 3); this.c.fillText("0", LEFT - 5, lane.y + lane.height - 2);
      this.c.font = "12px system-ui, sans-serif";
    }
    high(lane) {
      if (lane.high === undefined) { lane.high = 0; for (const v of lane.value) if (v > lane.high) lane.high = v; lane.high = lane.high || 1; }
      return lane.high;
    }
    axis() {
      const c = this.c, span = this.view[1] - this.view[0];
      let step = 10 ** Math.floor(Math.log10(span / 6)); for (const k of [1, 2, 5, 10]) if (span / (step * k) <= 8) { step *= k; break; }
      c.strokeStyle = RULE; c.fillStyle = MUTED; c.textAlign = "center"; c.lineWidth = 1;
      for (let t = Math.ceil(this.view[0] / step) * step; t <= this.view[1]; t += step) {
        const x = Math.round(this.x(t)) + .5; c.beginPath(); c.moveTo(x, TOP - 8); c.lineTo(x, this.height - 8); c.stroke();
        if (x > LEFT + 8 && x < this.width - 30) c.fillText(t === 0 ? "0" : fmt(t).replace(/\.?0+ /, " "), x, 8);
      }
    }
    rect(a, b, y, h, color, min = .6) { this.c.fillStyle = color; this.c.fillRect(a, y, Math.max(min, b - a), h); this.rects++; }
    requests(lane) {
      const r = this.data.requests, last = new Map(), [from, to] = this.view;
      for (let i = 0; i < r.start.length; i++) {
        if (r.end[i] < from || r.start[i] > to) continue;
        const y = lane.y + r.row[i] * lane.unit, h = Math.max(1, lane.unit - 1), end = this.x(r.end[i]);
        if (end < (last.get(r.row[i]) ?? -1) + .5) continue;   /* already a pixel of this row */
        last.set(r.row[i], end);
        const sent = this.x(r.sent[i] ?? r.start[i]), first = this.x(r.first[i] ?? r.end[i]);
        this.rect(this.x(r.start[i]), sent, y, h, WAIT, 0); this.rect(sent, first, y, h, PREFILL, 0); this.rect(first, end, y, h, DECODE);
      }
    }
    steps(lane) {
      const s = this.data.steps, i0 = Math.max(0, lower(s.start, this.view[0]) - 1), i1 = lower(s.start, this.view[1]);
      if (i1 - i0 < 3 * this.width) {
        for (let i = i0; i < i1; i++) this.rect(this.x(s.start[i]), this.x(s.end[i]) - (i1 - i0 < 400 ? .7 : 0), lane.y, lane.height, s.phase[i] ? DECODE : PREFILL);
        return;
      }
      for (let x = LEFT; x < this.width - 8; x++) {            /* a column a pixel: the share of either phase */
        const a = lower(s.start, this.t(x)), b = Math.max(a + 1, lower(s.start, this.t(x + 1)));
        let busy = [0, 0]; for (let i = a; i < Math.min(b, s.start.length); i++) busy[s.phase[i]] += s.busy[i];
        const all = busy[0] + busy[1]; if (!all) continue;
        const h = lane.height * busy[0] / all; this.rect(x, x + 1, lane.y, h, PREFILL); this.rect(x, x + 1, lane.y + h, lane.height - h, DECODE);
      }
    }
    ranges(lane) {
      const r = this.data.ranges, last = new Array(lane.depth).fill(-1), c = this.c, [from, to] = this.view;
      for (let i = 0; i < r.start.length && r.start[i] < to; i++) {
        if (r.end[i] < from) continue;
        const a = this.x(r.start[i]), b = this.x(r.end[i]), k = r.depth[i];
        if (b < last[k] + .5) continue; last[k] = b;
        const y = lane.y + k * DEPTH; this.rect(a, b - (b - a > 3 ? .6 : 0), y, DEPTH - 1, HUES[r.name[i] % HUES.length]);
        const shown = Math.max(a, LEFT), name = r.names[r.name[i]], text = r.layer[i] === null || name !== "layer" ? name : `layer ${r.layer[i]}`;
        if (Math.min(b, this.width) - shown > c.measureText(text).width + 8) { c.fillStyle = "#fff"; c.textAlign = "left"; c.fillText(text, shown + 4, y + DEPTH / 2); }
      }
    }
    chart(lane) {
      const c = this.c, i0 = Math.max(0, lower(lane.time, this.view[0]) - 1), i1 = Math.min(lane.time.length, lower(lane.time, this.view[1]) + 1);
      const high = this.high(lane), y = (v) => lane.y + lane.height - v / high * (lane.height - 4);
      c.strokeStyle = RULE; c.beginPath(); c.moveTo(LEFT, lane.y + lane.height + .5); c.lineTo(this.width, lane.y + lane.height + .5); c.stroke();
      c.strokeStyle = LINE; c.lineWidth = 1.2; c.beginPath();
      let px = -1, lo = 0, hi = 0, open = false, lastY = 0; c.fillStyle = BAND;
      const flush = () => { if (hi - lo > 1) { c.fillRect(px, lo, 1, hi - lo); this.rects++; } };
      for (let i = i0; i < i1; i++) {
        if (lane.value[i] === null) { open = false; continue; }
        const x = this.x(lane.time[i]), v = y(lane.value[i]), col = Math.floor(x);
        if (col === px) { lo = Math.min(lo, v); hi = Math.max(hi, v); continue; }
        if (px >= 0) flush();
        px = col; lo = hi = v;
        if (!open) c.moveTo(x, v); else { if (lane.isStep) c.lineTo(x, lastY); c.lineTo(x, v); }
        open = true; lastY = v;
      }
      c.stroke(); c.lineWidth = 1;
    }
    at(mx, my) {
      const t = this.t(mx), lane = this.lanes.find((l) => my >= l.y - 3 && my <= l.y + l.height + 3), d = this.data;
      if (!lane || mx < LEFT) return null;
      if (lane.kind === "requests") {
        const row = Math.floor((my - lane.y) / lane.unit), r = d.requests;
        const i = r.start.findIndex((s, j) => r.row[j] === row && s <= t && t <= r.end[j]);
        return i < 0 ? null : `request ${i}: ${r.prompt[i]} prompt, ${r.output[i]} output tokens; waited ${fmt(r.sent[i] - r.start[i])}, first token after ${fmt(r.first[i] - r.start[i])}, end after ${fmt(r.end[i] - r.start[i])}`;
      }
      if (lane.kind === "steps") {
        const s = d.steps, i = lower(s.start, t) - 1; if (i < 0 || t > s.end[i]) return null;
        return `${s.count[i]} ${s.phase[i] ? "decode" : "prefill"} step${s.count[i] > 1 ? "s" : ""}: ${fmt(s.busy[i])}, ${s.tokens[i]} tokens, ${s.requests[i]} requests` + (s.hit[i] === null ? "" : `, ${s.hit[i]} experts hit a layer`);
      }
      if (lane.kind === "ranges") {
        const r = d.ranges, depth = Math.floor((my - lane.y) / DEPTH);
        for (let i = Math.min(r.start.length, lower(r.start, t)) - 1; i >= 0; i--) if (r.depth[i] === depth && r.end[i] >= t) return `${r.names[r.name[i]]}${r.layer[i] === null ? "" : `, layer ${r.layer[i]}`}: ${fmt(r.end[i] - r.start[i])}`; else if (r.depth[i] === depth) break;
        return null;
      }
      const i = Math.max(0, lower(lane.time, t) - 1); return lane.value[i] === null ? null : `${lane.label}: ${lane.value[i]} ${lane.unit} at ${fmt(lane.time[i])}`;
    }
    zoom(factor, t) {
      const [a, b] = this.view, span = Math.min(this.full[1] - this.full[0], Math.max(MIN_SPAN, (b - a) * factor)), share = (t - a) / (b - a);
      this.show(t - share * span, span);
    }
    show(from, span) {
      const low = this.full[0], high = this.full[1], a = Math.max(low, Math.min(high - span, from));
      this.view = [a, a + span]; this.later();
    }
    later() { if (!this.queued) { this.queued = true; requestAnimationFrame(() => { this.queued = false; this.draw(); }); } }
    listen() {
      const c = this.canvas; let from = null;
      c.addEventListener("wheel", (e) => { if (!e.ctrlKey && !e.shiftKey && !this.isActive) return; e.preventDefault(); this.zoom(e.deltaY > 0 ? 1.25 : .8, this.t(e.offsetX)); }, { passive: false });
      c.addEventListener("pointerdown", (e) => { this.isActive = true; from = [e.offsetX, this.view.slice()]; c.setPointerCapture(e.pointerId); c.focus(); });
      c.addEventListener("pointerup", () => { from = null; });
      c.addEventListener("blur", () => { this.isActive = false; });
      c.addEventListener("pointermove", (e) => {
        if (from) { const span = from[1][1] - from[1][0]; this.show(from[1][0] - (e.offsetX - from[0]) / (this.width - LEFT - 8) * span, span); return; }
        const text = this.at(e.offsetX, e.offsetY); this.tip.textContent = text || this.hint;
      });
      c.addEventListener("dblclick", () => { this.view = this.full.slice(); this.later(); });
      c.addEventListener("keydown", (e) => {
        const span = this.view[1] - this.view[0], mid = (this.view[0] + this.view[1]) / 2;
        const does = { "+": () => this.zoom(.6, mid), "=": () => this.zoom(.6, mid), "-": () => this.zoom(1.6, mid), "0": () => { this.view = this.full.slice(); this.later(); },
          ArrowLeft: () => this.show(this.view[0] - span / 5, span), ArrowRight: () => this.show(this.view[0] + span / 5, span) }[e.key];
        if (does) { e.preventDefault(); does(); }
      });
      window.addEventListener("resize", () => this.later());
      const on = (name, act) => this.box.querySelector(`[data-do=${name}]`).addEventListener("click", act);
      const mid = () => (this.view[0] + this.view[1]) / 2;
      on("in", () => this.zoom(.5, mid())); on("out", () => this.zoom(2, mid())); on("all", () => { this.view = this.full.slice(); this.later(); });
      on("save", () => this.save());
      this.hint = this.tip.textContent;
    }
    trace() {
      /* Chrome's trace event format, which Perfetto opens: complete events (X), counters (C), names (M). */
      const d = this.data, out = [], pid = 1, name = (tid, text) => out.push({ ph: "M", name: "thread_name", pid, tid, args: { name: text } });
      out.push({ ph: "M", name: "process_name", pid, args: { name: d.title } });
      const put = (tid, text, a, b, args) => out.push({ ph: "X", name: text, pid, tid, ts: a, dur: Math.max(0, b - a), args });
      const r = d.requests, rows = new Set(r.row); rows.forEach((row) => name(1000 + row, `requests, row ${row}`));
      r.start.forEach((s, i) => {
        put(1000 + r.row[i], `request ${i}`, s, r.end[i], { prompt_tokens: r.prompt[i], output_tokens: r.output[i] });
        if (r.first[i] !== null) { put(1000 + r.row[i], "until first token", r.sent[i] ?? s, r.first[i], {}); put(1000 + r.row[i], "decode", r.first[i], r.end[i], {}); }
      });
      if (d.steps) { name(1, "engine steps"); d.steps.start.forEach((s, i) => {
        put(1, d.steps.phase[i] ? "decode" : "prefill", s, d.steps.end[i], { steps: d.steps.count[i], tokens: d.steps.tokens[i], requests: d.steps.requests[i] });
        if (d.steps.hit[i] !== null) out.push({ ph: "C", name: "experts hit a layer", pid, ts: s, args: { value: d.steps.hit[i] } }); }); }
      if (d.ranges) { name(2, "ranges"); d.ranges.start.forEach((s, i) => put(2, d.ranges.names[d.ranges.name[i]], s, d.ranges.end[i], d.ranges.layer[i] === null ? {} : { layer: d.ranges.layer[i] })); }
      for (const s of d.telemetry) s.time.forEach((t, i) => out.push({ ph: "C", name: `${s.device}: ${s.label} [${s.unit}]`, pid, ts: t, args: { value: s.value[i] } }));
      return { displayTimeUnit: "ms", traceEvents: out };
    }
    save() {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify(this.trace())], { type: "application/json" }));
      link.download = "timeline.perfetto.json"; link.click(); setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }
  }
  const drawn = new Map();
  const open = (box) => { if (!drawn.has(box)) drawn.set(box, new Timeline(box, JSON.parse(box.querySelector("script").textContent))); return drawn.get(box); };
  document.querySelectorAll(".timeline").forEach((box) => {
    const fold = box.closest("details");
    if (fold && !fold.open) fold.addEventListener("toggle", () => fold.open && open(box), { once: true }); else open(box);
  });
  window.harnessTimelines = () => [...document.querySelectorAll(".timeline")].map(open);
})();
