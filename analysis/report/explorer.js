"use strict";
// The explorer: one filter over a scatter plot, parallel coordinates and training curves of all
// runs, and over the rows of the tables. All three plots are SVG, which prints and scales.

// Okabe and Ito's colours but black, which a dark page would hide.
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const SVG = "http://www.w3.org/2000/svg";
const SIZE = { width: 520, height: 330, left: 52, right: 14, top: 12, bottom: 40 };

function shape(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function choice(label, options, onChange, value) {
  const select = element("select");
  for (const [key, text] of options) select.append(element("option", { value: key }, text));
  if (value !== undefined) select.value = value;
  select.addEventListener("change", onChange);
  return { select, node: element("label", {}, `${label} `, select) };
}

function shown(value, digits = 1) {
  return value === null ? "–" : Number(value.toFixed(digits)).toString();
}

// Some five round numbers that span low to high.
function ticks(low, high) {
  if (!(high > low)) return [low];
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) {
    found.push(Number(value.toPrecision(10)));
  }
  return found;
}

function scale(low, high, from, to) {
  const span = high > low ? high - low : 1;
  const middle = high > low ? 0 : 0.5;
  return (value) => from + (to - from) * ((value - low) / span + middle);
}

class Explorer {
  constructor(widget) {
    this.data = JSON.parse(widget.querySelector("script").textContent);
    this.widget = widget;
    widget.querySelector(".without").remove();
    this.tip = element("div", { class: "tip", role: "status" });
    this.tip.hidden = true;
    this.filters = this.data.knobs.map((knob, index) => {
      const levels = knob.levels.map((level, place) => [String(place), level]);
      const options = [["", "any"], ...levels, ["-", "without"]];
      return choice(knob.label, options, () => this.draw(), "");
    });
    const axes = this.axes();
    const names = axes.map((axis, index) => [String(index), axis.label]);
    const scores = this.data.scores.length;
    const last = String(scores - 1);
    this.unit = choice(
      "show",
      [
        ["variants", "means of variants"],
        ["runs", "single runs"],
      ],
      () => this.draw(),
    );
    this.x = choice("x", names, () => this.draw(), scores > 1 ? "0" : String(names.length - 1));
    this.y = choice("y", names, () => this.draw(), last);
    const knobs = this.data.knobs.map((knob, index) => [String(index), knob.label]);
    this.color = choice(
      "colour by",
      [["baseline", "baseline"], ...knobs],
      () => this.draw(),
      knobs.length ? String(this.telltale()) : "baseline",
    );
    const curves = this.data.curves.names.map((name, index) => [String(index), name]);
    this.curve = choice("curve", curves, () => this.draw(), String(this.telling()));
    this.count = element("span", { "aria-live": "polite" });
    this.legend = element("ul", { class: "legend" });
    this.scatter = element("div");
    this.parallel = element("div", { class: "whole" });
    this.curves = element("div");
    const bar = element(
      "div",
      { class: "controls" },
      ...this.filters.map((each) => each.node),
      this.count,
    );
    const looks = element(
      "div",
      { class: "controls" },
      this.unit.node,
      this.x.node,
      this.y.node,
      this.color.node,
    );
    if (this.data.curves.names.length) looks.append(this.curve.node);
    widget.append(
      bar,
      looks,
      this.legend,
      element("div", { class: "plots" }, this.scatter, this.curves, this.parallel),
      this.tip,
    );
    this.draw();
  }

  // The loss that differs most between runs and has most steps: a curve that all runs share, or of
  // two steps, tells little.
  telling() {
    const { names, lines } = this.data.curves;
    const worth = names.map((name, index) => {
      const own = lines.filter((line) => line.curve === index);
      const ends = new Set(own.map((line) => line.y.at(-1))).size;
      const steps = Math.max(...own.map((line) => line.x.length));
      return ends * Math.log(steps) * (name.endsWith("/loss") ? 2 : 1);
    });
    return Math.max(0, worth.indexOf(Math.max(...worth)));
  }

  // The last knob of texts: the first one often only switches the others on.
  telltale() {
    const index = this.data.knobs.findLastIndex((knob) => !knob.numeric);
    return Math.max(index, 0);
  }

  // All that a point can stand at: scores, cost, knobs. A knob of texts stands at their ranks.
  axes() {
    const scores = this.data.scores.map((label, index) => ({
      label: `${label} (%)`,
      narrow: `${this.data.narrow[index]} (%)`,
      isScore: true,
      of: (point) => point.scores[index],
    }));
    const cost = { label: "stage minutes", isCost: true, of: (point) => point.minutes };
    const knobs = this.data.knobs.map((knob, index) => ({
      label: knob.label,
      knob,
      of: (point) => {
        const place = point.knobs[index];
        return place === null ? null : knob.numeric ? Number(knob.levels[place]) : place;
      },
    }));
    return [...scores, cost, ...knobs];
  }

  chosen() {
    return this.data.runs.filter((run) =>
      this.filters.every(({ select }, index) => {
        if (select.value === "") return true;
        const place = run.knobs[index];
        return select.value === "-" ? place === null : place === Number(select.value);
      }),
    );
  }

  points(runs) {
    if (this.unit.select.value === "runs") {
      return runs.map((run) => ({
        ...run,
        runs: [run],
        title: `${this.data.variants[run.variant].name} · seed ${run.seed}`,
      }));
    }
    const groups = new Map();
    for (const run of runs) groups.set(run.variant, [...(groups.get(run.variant) ?? []), run]);
    return [...groups].map(([variant, own]) => {
      const mean = (values) => {
        const known = values.filter((value) => value !== null);
        return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
      };
      const seeds = own.length === 1 ? "1 seed" : `${own.length} seeds`;
      return {
        variant,
        runs: own,
        knobs: own[0].knobs,
        title: `${this.data.variants[variant].name} · ${seeds}`,
        scores: this.data.scores.map((_, index) => mean(own.map((run) => run.scores[index]))),
        minutes: mean(own.map((run) => run.minutes)),
      };
    });
  }

  colorOf(point) {
    const by = this.color.select.value;
    if (by === "baseline")
      return this.data.variants[point.variant].baseline ? COLORS[1] : COLORS[0];
    const place = point.knobs[Number(by)];
    if (place === null) return "#808080";
    const levels = this.data.knobs[Number(by)].levels.length;
    if (levels <= COLORS.length) return COLORS[place];
    const share = place / (levels - 1);
    return `hsl(${Math.round(225 - 185 * share)} 75% ${Math.round(42 + 12 * share)}%)`;
  }

  draw() {
    const runs = this.chosen();
    const points = this.points(runs);
    this.count.textContent = `${runs.length} of ${this.data.runs.length} runs`;
    this.drawLegend();
    this.drawScatter(points);
    this.drawParallel(points);
    this.drawCurves(new Set(runs.map((run) => run.run)));
    this.filterTables(runs);
  }

  drawLegend() {
    const by = this.color.select.value;
    const entries =
      by === "baseline"
        ? [
            ["baseline", COLORS[1]],
            ["others", COLORS[0]],
          ]
        : [
            ...this.data.knobs[Number(by)].levels.map((level, place) => {
              const knobs = this.data.knobs.map(() => place);
              return [level, this.colorOf({ knobs, variant: 0 })];
            }),
            ["without", "#808080"],
          ];
    this.legend.replaceChildren(
      ...entries
        .slice(0, 12)
        .map(([text, color]) => element("li", { style: `--swatch: ${color}` }, text)),
    );
  }

  // The tables show the rows of the chosen runs alone.
  filterTables(runs) {
    const variants = new Set(runs.map((run) => this.data.variants[run.variant].anchor));
    const ids = new Set(runs.map((run) => run.run));
    const known = new Set(this.data.runs.map((run) => run.run));
    const anchors = new Set(this.data.variants.map((variant) => variant.anchor));
    for (const row of document.querySelectorAll("table[data-name=results] tbody tr")) {
      const link = row.querySelector("td a");
      const anchor = link ? link.getAttribute("href").slice(1) : "";
      if (anchors.has(anchor)) row.hidden = !variants.has(anchor);
    }
    for (const place of document.querySelectorAll("table[data-name=runs] [data-run]")) {
      if (known.has(place.dataset.run)) place.closest("tr").hidden = !ids.has(place.dataset.run);
    }
  }

  frame(title, x, y) {
    const { width, height, left, right, top, bottom } = SIZE;
    const svg = shape("svg", {
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": title,
    });
    const toX = scale(x.low, x.high, left + 8, width - right - 8);
    const toY = scale(y.low, y.high, height - bottom - 8, top + 8);
    svg.append(
      shape("path", {
        class: "axis",
        fill: "none",
        d: `M${left} ${top}V${height - bottom}H${width - right}`,
      }),
    );
    for (const { at, text } of x.ticks) {
      svg.append(
        shape("text", { x: toX(at), y: height - bottom + 16, "text-anchor": "middle" }, text),
      );
    }
    for (const { at, text } of y.ticks) {
      svg.append(shape("text", { x: left - 6, y: toY(at) + 4, "text-anchor": "end" }, text));
    }
    svg.append(
      shape(
        "text",
        { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
        x.label,
      ),
    );
    svg.append(
      shape(
        "text",
        {
          x: 0,
          y: 0,
          "text-anchor": "middle",
          transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`,
        },
        y.label,
      ),
    );
    return { svg, toX, toY };
  }

  range(axis, points) {
    const values = points.map(axis.of).filter((value) => value !== null);
    const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const isText = axis.knob && !axis.knob.numeric;
    const marks = isText
      ? axis.knob.levels
          .map((text, at) => ({ at, text: text.slice(0, 14) }))
          .filter(({ at }) => at >= low && at <= high)
      : ticks(low, high).map((at) => ({ at, text: String(at) }));
    return { low, high, ticks: marks, label: axis.label };
  }

  drawScatter(points) {
    const axes = this.axes();
    const [x, y] = [axes[Number(this.x.select.value)], axes[Number(this.y.select.value)]];
    const there = points.filter((point) => x.of(point) !== null && y.of(point) !== null);
    const title = `${y.label} against ${x.label}, ${there.length} points`;
    const { svg, toX, toY } = this.frame(title, this.range(x, there), this.range(y, there));
    for (const point of there) {
      const isBaseline = this.data.variants[point.variant].baseline;
      const mark = shape("circle", {
        cx: toX(x.of(point)),
        cy: toY(y.of(point)),
        r: isBaseline ? 7 : 5,
        fill: this.colorOf(point),
        stroke: isBaseline ? "currentColor" : "none",
        "fill-opacity": 0.85,
      });
      this.react(mark, point, [mark]);
      svg.append(mark);
    }
    this.scatter.replaceChildren(element("h3", {}, "Scores and cost"), svg);
  }

  drawParallel(points) {
    const axes = this.axes().filter((axis) => points.some((point) => axis.of(point) !== null));
    // the swept knobs stand left, the scores right, as the results follow from them
    const ordered = [
      ...axes.filter((axis) => axis.knob),
      ...axes.filter((axis) => axis.isCost),
      ...axes.filter((axis) => axis.isScore),
    ];
    const [width, height, margin] = [1100, 300, 70];
    const svg = shape("svg", {
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `Parallel coordinates of ${points.length} lines`,
    });
    const toX = scale(0, Math.max(1, ordered.length - 1), margin, width - margin);
    const places = ordered.map((axis) => {
      const range = this.range(axis, points);
      return scale(range.low, range.high, height - 34, 34);
    });
    // a run that has only begun has no scores, and so no line
    const there = points.filter(
      (point) => ordered.filter((axis) => axis.of(point) !== null).length > 1,
    );
    const lines = there.map((point) => {
      const known = ordered
        .map((axis, index) => ({ index, value: axis.of(point) }))
        .filter(({ value }) => value !== null);
      const spots = known.map(
        ({ index, value }) => `${toX(index).toFixed(1)} ${places[index](value).toFixed(1)}`,
      );
      const pieces = spots.slice(1).map((place, number) => ({
        path: `M${spots[number]}L${place}`,
        // the line crosses an axis on which it has no value, such as lambda without CGNet
        isGap: known[number + 1].index - known[number].index > 1,
      }));
      const draw = (isGap) =>
        shape("path", {
          class: isGap ? "path gap" : "path",
          stroke: this.colorOf(point),
          d: pieces
            .filter((piece) => piece.isGap === isGap)
            .map((piece) => piece.path)
            .join(""),
        });
      const line = [draw(false), draw(true)];
      const hit = shape("path", { class: "hit", d: pieces.map((piece) => piece.path).join("") });
      this.react(hit, point, line);
      return { line, hit };
    });
    svg.append(...lines.flatMap((each) => each.line), ...lines.map((each) => each.hit));
    ordered.forEach((axis, index) => {
      const range = this.range(axis, points);
      svg.append(shape("path", { class: "axis", d: `M${toX(index)} 34V${height - 34}` }));
      svg.append(
        shape(
          "text",
          { x: toX(index), y: 16, "text-anchor": "middle", "font-weight": 600 },
          axis.narrow ?? axis.label,
        ),
      );
      for (const { at, text } of range.ticks) {
        svg.append(
          shape("text", { x: toX(index) + 5, y: places[index](at) + 4, "font-size": 11 }, text),
        );
      }
    });
    this.parallel.replaceChildren(
      element(
        "h3",
        {},
        "Knobs and scores, a line for each point; dashed across axes without a value",
      ),
      svg,
    );
  }

  drawCurves(chosen) {
    const { names, lines, told } = this.data.curves;
    if (!names.length) return;
    const number = Number(this.curve.select.value);
    const there = lines.filter(
      (line) => line.curve === number && chosen.has(this.data.runs[line.run].run),
    );
    const reach = (values, label) => {
      const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
      return { low, high, label, ticks: ticks(low, high).map((at) => ({ at, text: String(at) })) };
    };
    const title = `${names[number]} by step, ${there.length} runs`;
    const { svg, toX, toY } = this.frame(
      title,
      reach(
        there.flatMap((line) => line.x),
        "step",
      ),
      reach(
        there.flatMap((line) => line.y),
        names[number],
      ),
    );
    const drawn = there.map((line) => {
      const run = this.data.runs[line.run];
      const point = (step, index) => `${toX(step).toFixed(1)} ${toY(line.y[index]).toFixed(1)}`;
      const path = `M${line.x.map(point).join("L")}`;
      const visible = shape("path", { class: "path", d: path, stroke: this.colorOf(run) });
      const hit = shape("path", { class: "hit", d: path });
      const name = `${this.data.variants[run.variant].name} · seed ${run.seed}`;
      this.react(hit, { ...run, runs: [run], title: name }, [visible]);
      return { visible, hit };
    });
    svg.append(...drawn.map((each) => each.visible), ...drawn.map((each) => each.hit));
    const note = element("p", { class: "note" }, told);
    this.curves.replaceChildren(element("h3", {}, "Training curves"), svg, ...(told ? [note] : []));
  }

  // Pointing at a mark tells its numbers and lights it; a click leads to its row among the runs.
  react(mark, point, lit) {
    const tell = (event) => {
      const scores = this.data.scores.map((name, index) => `${name} ${shown(point.scores[index])}`);
      const minutes = point.minutes === null ? [] : [`${shown(point.minutes)} stage minutes`];
      const run =
        point.runs.length === 1 ? [`run ${point.runs[0].run.split("/")[1].slice(0, 8)}`] : [];
      this.tip.replaceChildren(
        element("strong", {}, point.title),
        ...[...scores, ...minutes, ...run].flatMap((line) => [element("br"), line]),
      );
      const box = this.widget.getBoundingClientRect();
      this.tip.hidden = false;
      const left = Math.min(event.clientX - box.left + 12, box.width - this.tip.offsetWidth - 4);
      this.tip.style.left = `${Math.max(4, left)}px`;
      this.tip.style.top = `${event.clientY - box.top + 14}px`;
      for (const each of lit) each.classList.add("lit");
    };
    mark.style.cursor = "pointer";
    mark.addEventListener("pointerenter", tell);
    mark.addEventListener("pointermove", tell);
    mark.addEventListener("pointerleave", () => {
      this.tip.hidden = true;
      for (const each of lit) each.classList.remove("lit");
    });
    mark.addEventListener("click", () => {
      const place = document.querySelector(`[data-run="${CSS.escape(point.runs[0].run)}"]`);
      if (!place) return;
      const row = place.closest("tr");
      row.id ||= `run-${point.runs[0].run.replace("/", "-")}`;
      location.hash = row.id;
    });
  }
}

for (const widget of document.querySelectorAll(".widget[data-kind=explorer]")) new Explorer(widget);
