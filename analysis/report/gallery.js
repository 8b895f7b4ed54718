"use strict";
// The gallery: one image by variant and stage. Maps are drawn as heat over the grey image, and at
// a threshold as the area at or above it.

// The colours of the panels: dark violet over red to pale yellow, as lightness rises.
const HEAT = [
  [0, 0, 4],
  [87, 16, 110],
  [188, 55, 84],
  [249, 142, 9],
  [252, 255, 164],
];
const HEAT_SHARE = 0.6;

function picture(address) {
  return new Promise((resolve) => {
    const image = new Image();
    image.addEventListener("load", () => resolve(image));
    image.src = address;
  });
}

function pixelsOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

function heat(share) {
  const place = share * (HEAT.length - 1);
  const low = Math.min(HEAT.length - 2, Math.floor(place));
  return HEAT[low].map(
    (value, channel) => value + (HEAT[low + 1][channel] - value) * (place - low),
  );
}

class Gallery {
  constructor(widget) {
    this.data = JSON.parse(widget.querySelector("script").textContent);
    widget.querySelector(".without").remove();
    const options = this.data.images.map((name) => element("option", {}, name));
    this.image = element("select", {}, ...options);
    this.image.addEventListener("change", () => this.draw());
    this.threshold = element("input", { type: "range", min: 0, max: 100, value: 0, step: 1 });
    this.value = element("output");
    this.threshold.addEventListener("input", () => this.drawMaps());
    const controls = element(
      "div",
      { class: "controls" },
      element("label", {}, "image ", this.image),
      element("label", {}, "threshold of the maps ", this.threshold),
      this.value,
    );
    const legend = element(
      "ul",
      { class: "legend" },
      ...Object.entries(this.data.classes).map(([name, color]) =>
        element("li", { style: `--swatch: ${color}` }, name),
      ),
    );
    this.rows = element("div", { class: "gallery" });
    widget.append(controls, legend, this.rows, element("p", { class: "note" }, this.data.told));
    this.loaded = new Map();
    this.draw();
  }

  async load(index) {
    if (!this.loaded.has(index)) this.loaded.set(index, picture(this.data.pictures[index]));
    return this.loaded.get(index);
  }

  // A slow picture must not land in the gallery of an image that was chosen after it.
  async draw() {
    const name = this.image.value;
    const rows = [];
    const maps = [];
    for (const row of this.data.rows) {
      const cells = row.cells[name] ?? [];
      const box = element("div", { class: "cells" });
      const photo = cells.find(([, kind]) => kind === "image");
      const grey = photo && pixelsOf(await this.load(photo[2]));
      for (const [title, kind, index] of cells) {
        const image = await this.load(index);
        const shown =
          kind === "cam"
            ? element("canvas", { role: "img", "aria-label": `${title}, ${row.name}` })
            : image.cloneNode();
        if (kind === "cam") maps.push({ canvas: shown, cam: pixelsOf(image), grey });
        else shown.alt = `${title}, ${row.name}`;
        box.append(element("figure", {}, element("figcaption", { title }, title), shown));
      }
      const best = row.threshold === null ? "" : `, chosen threshold ${row.threshold.toFixed(2)}`;
      rows.push(
        element("div", {}, element("h4", {}, `${row.name} · seed ${row.seed}${best}`), box),
      );
    }
    if (name !== this.image.value) return;
    this.rows.replaceChildren(...rows);
    this.maps = maps;
    this.drawMaps();
  }

  drawMaps() {
    const threshold = Number(this.threshold.value) / 100;
    this.value.textContent = threshold ? threshold.toFixed(2) : "off";
    for (const { canvas, cam, grey } of this.maps ?? []) {
      canvas.width = cam.width;
      canvas.height = cam.height;
      const pen = canvas.getContext("2d");
      const out = pen.createImageData(cam.width, cam.height);
      for (let at = 0; at < out.data.length; at += 4) {
        const value = cam.data[at] / 255;
        const base =
          grey === undefined ? 0 : (grey.data[at] + grey.data[at + 1] + grey.data[at + 2]) / 3;
        const color = heat(value);
        const isBelow = value < threshold;
        for (let channel = 0; channel < 3; channel += 1) {
          out.data[at + channel] = isBelow
            ? base * 0.35
            : HEAT_SHARE * color[channel] + (1 - HEAT_SHARE) * base;
        }
        out.data[at + 3] = 255;
      }
      pen.putImageData(out, 0, 0);
    }
  }
}

for (const widget of document.querySelectorAll(".widget[data-kind=gallery]")) new Gallery(widget);
