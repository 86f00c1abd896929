// One plane on a canvas: the picture, what lies over it, and the way between pixels of the screen and voxels.

import type { Vec3 } from "../api";
import { h } from "../dom";
import { inside, shownSpacing, sidesOf, toWorld, type PlaneAxes } from "./grid";
import { paintFusion } from "./fusion";
import { cut, layerColours, outline, type Layer, type LevelBox, type Patch } from "./levels";
import { describe, type Measure } from "./measure";
import { isColour, paint, unitOf } from "./shade";
import type { Volume } from "./volume";
import type { Viewer } from "./viewer";

/** A gesture in the making: drawn as a line or frame until it is done. */
export interface Sketch { points: Vec3[]; kind: "point" | "box" | "scribble" | "lasso" | "erase"; positive: boolean }

export class PlaneView {
  readonly canvas = h("canvas");
  readonly element: HTMLElement;
  k = 0;
  zoom = 1;
  pan: [number, number] = [0, 0];
  private readonly base = document.createElement("canvas");
  private readonly over = document.createElement("canvas");
  private readonly fused = document.createElement("canvas");
  private fusedKey = "";
  /** What was cut out of each layer for the present slice: a moving crosshair need not cut it again. */
  private readonly cuts = new Map<string, { source: LevelBox; k: number; patch: Patch | null; paths: Path2D[] }>();
  private readonly letters = {
    left: h("span", { class: "side", "data-side": "left" }), right: h("span", { class: "side", "data-side": "right" }),
    top: h("span", { class: "side", "data-side": "top" }), bottom: h("span", { class: "side", "data-side": "bottom" }),
  };
  private readonly title = h("div", { class: "corner tl" });
  private readonly place = h("div", { class: "corner tr mono" });
  private readonly shading = h("div", { class: "corner bl mono" });
  private readonly waiting = h("div", { class: "waiting" });
  private readonly slider = h("input", { type: "range", class: "slices", min: 0, step: 1 });
  private drawn = "";
  private frame = 0;
  private readonly resize: ResizeObserver;

  constructor(
    readonly viewer: Viewer,
    readonly volume: Volume,
    readonly axes: PlaneAxes,
  ) {
    this.element = h("div", { class: "plane", role: "group", tabindex: 0, "data-plane": axes.name, "aria-roledescription": "image plane" },
      this.canvas, this.letters.left, this.letters.right, this.letters.top, this.letters.bottom, this.title, this.place, this.shading, this.waiting, this.slider);
    const sides = sidesOf(volume.image, volume.grid, axes);
    for (const side of ["left", "right", "top", "bottom"] as const) this.letters[side].textContent = sides[side];
    const letters = sides.left && sides.top ? `, left side ${sides.left}, top ${sides.top}` : ", sides not known";
    this.element.setAttribute("aria-label", `${axes.title} plane${letters}`);
    this.slider.max = String(this.slices - 1);
    this.slider.setAttribute("aria-label", `Slice of the ${axes.title} plane`);
    this.slider.hidden = this.slices < 2;
    this.slider.addEventListener("input", () => viewer.showSlice(this, Number(this.slider.value)));
    this.element.addEventListener("focusin", () => viewer.activate(this));
    this.resize = new ResizeObserver(() => this.invalidate());
    this.resize.observe(this.element);
    this.k = Math.floor(this.slices / 2);
  }

  get slices(): number {
    return this.volume.image.shape_zyx[this.axes.slice];
  }

  dispose(): void {
    this.resize.disconnect();
    cancelAnimationFrame(this.frame);
    this.element.remove();
  }

  /** Draw in the next frame. `deep`: the picture itself has changed, not only what lies over it. */
  invalidate(deep = false): void {
    if (deep) this.drawn = "";
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  // ---- between the screen and the grid -------------------------------------------------------------------------------

  /** Size of one pixel of the plane in CSS pixels, and where its upper left corner lies. */
  private fit(): { px: number; py: number; left: number; top: number } {
    const { axes, volume } = this;
    const spacing = shownSpacing(volume.grid);
    const width = volume.image.shape_zyx[axes.across] * spacing[axes.across];
    const height = volume.image.shape_zyx[axes.down] * spacing[axes.down];
    const scale = Math.min(this.element.clientWidth / width, this.element.clientHeight / height) * this.zoom;
    return {
      px: scale * spacing[axes.across],
      py: scale * spacing[axes.down],
      left: (this.element.clientWidth - width * scale) / 2 + this.pan[0],
      top: (this.element.clientHeight - height * scale) / 2 + this.pan[1],
    };
  }

  /** CSS pixels of one mm (of one pixel where no spacing is known). */
  get scale(): number {
    return this.fit().px / shownSpacing(this.volume.grid)[this.axes.across];
  }

  /** Draw at this scale, with this index at this point of the screen. */
  look(scale: number, index: Vec3, x: number, y: number): void {
    this.zoom *= scale / this.scale;
    const [nx, ny] = this.screenAt(index);
    this.pan = [this.pan[0] + x - nx, this.pan[1] + y - ny];
    this.invalidate();
  }

  /** Index (fractions allowed) under a point of the element, in CSS pixels. */
  indexAt(x: number, y: number): Vec3 {
    const { axes, volume } = this;
    const { px, py, left, top } = this.fit();
    const shape = volume.image.shape_zyx;
    const col = (x - left) / px - 0.5;
    const row = (y - top) / py - 0.5;
    const index: Vec3 = [0, 0, 0];
    index[axes.slice] = this.k;
    index[axes.across] = axes.flipAcross ? shape[axes.across] - 1 - col : col;
    index[axes.down] = axes.flipDown ? shape[axes.down] - 1 - row : row;
    return index;
  }

  /** Where an index lies on the element, in CSS pixels. */
  screenAt(index: Vec3): [number, number] {
    const { axes, volume } = this;
    const { px, py, left, top } = this.fit();
    const shape = volume.image.shape_zyx;
    const col = axes.flipAcross ? shape[axes.across] - 1 - index[axes.across] : index[axes.across];
    const row = axes.flipDown ? shape[axes.down] - 1 - index[axes.down] : index[axes.down];
    return [left + (col + 0.5) * px, top + (row + 0.5) * py];
  }

  zoomBy(factor: number, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2): void {
    const before = this.indexAt(x, y);
    this.zoom = Math.min(40, Math.max(0.2, this.zoom * factor));
    const [nx, ny] = this.screenAt(before);
    this.pan = [this.pan[0] + x - nx, this.pan[1] + y - ny];
    this.viewer.looked();
    this.invalidate();
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------

  private draw(): void {
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const here = this.drawBase();
    const { px, py, left, top } = this.fit();
    const shape = this.volume.image.shape_zyx;
    const columns = shape[this.axes.across];
    const rows = shape[this.axes.down];
    if (here) {
      context.imageSmoothingEnabled = this.viewer.smooth;
      context.imageSmoothingQuality = "high";
      context.drawImage(this.base, left, top, columns * px, rows * py);
      this.drawFusion(context, left, top, columns * px, rows * py);
      context.save();
      context.translate(left, top);
      context.scale(px, py);
      for (const layer of this.viewer.layers) this.drawLayer(context, layer, px, py);
      context.restore();
    }
    this.drawMeasures(context);
    this.drawSketch(context);
    this.drawCrosshair(context, width, height);
    this.describe(here);
  }

  private drawBase(): boolean {
    const { viewer, volume, axes, k } = this;
    const shape = volume.image.shape_zyx;
    const key = `${k}|${viewer.shadingKey}|${axes.slice === 0 ? volume.loaded[k] : volume.done}`;
    if (this.drawn === key) return true;
    const width = shape[axes.across];
    const height = shape[axes.down];
    if (this.base.width !== width || this.base.height !== height) {
      this.base.width = width;
      this.base.height = height;
    }
    const context = this.base.getContext("2d")!;
    const picture = context.createImageData(width, height);
    if (!paint(volume, axes, k, viewer.shader, viewer.channel, new Uint32Array(picture.data.buffer))) return false;
    context.putImageData(picture, 0, 0);
    this.drawn = key;
    return true;
  }

  private drawFusion(context: CanvasRenderingContext2D, left: number, top: number, width: number, height: number): void {
    const { fusion } = this.viewer;
    if (!fusion) return;
    const { centre, width: span } = fusion.window;
    const key = [this.k, fusion.volume.image.id, fusion.volume.done, fusion.palette, fusion.sampling, centre, span].join("|");
    if (this.fusedKey !== key) {
      this.fused.width = this.base.width;
      this.fused.height = this.base.height;
      const into = this.fused.getContext("2d")!;
      const picture = into.createImageData(this.base.width, this.base.height);
      paintFusion(this.volume, this.axes, this.k, fusion, new Uint32Array(picture.data.buffer));
      into.putImageData(picture, 0, 0);
      this.fusedKey = key;
    }
    context.globalAlpha = fusion.opacity;
    context.imageSmoothingEnabled = fusion.sampling === "trilinear";
    context.drawImage(this.fused, left, top, width, height);
    context.globalAlpha = 1;
  }

  private scratch(width: number, height: number): ImageData {
    if (this.over.width !== width || this.over.height !== height) {
      this.over.width = width;
      this.over.height = height;
    }
    return this.over.getContext("2d")!.createImageData(width, height);
  }

  private drawLayer(context: CanvasRenderingContext2D, layer: Layer, px: number, py: number): void {
    if (layer.hidden) return;
    const { patch, paths } = this.cutOf(layer);
    if (!patch) return;
    const colours = layerColours(layer);
    const picture = this.scratch(patch.width, patch.height);
    const words = new Uint32Array(picture.data.buffer);
    for (let k = 0; k < words.length; k++) words[k] = colours[patch.levels[k]] ?? 0;
    this.over.getContext("2d")!.putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = layer.kind === "map";
    context.drawImage(this.over, patch.left, patch.top);
    if (layer.kind === "map") return;
    // The outline is traced in pixels of the plane and stroked in pixels of the screen, so that it is as thin everywhere.
    const strokes: [Path2D, number, number[]][] = [[paths[0], 1, [3, 3]], [paths[2], 1, [3, 3]], [paths[1], 1.8, []]];
    for (const [traced, width, dash] of strokes) {
      const path = new Path2D();
      path.addPath(traced, new DOMMatrix([px, 0, 0, py, 0, 0]));
      context.save();
      context.scale(1 / px, 1 / py);
      context.setLineDash(dash);
      // A dark edge on both sides keeps the outline visible on white bone as on black air.
      context.strokeStyle = "rgba(0, 0, 0, 0.5)";
      context.lineWidth = width + 1.4;
      context.stroke(path);
      context.strokeStyle = layer.colour;
      context.lineWidth = width;
      context.stroke(path);
      context.restore();
    }
  }

  private cutOf(layer: Layer): { patch: Patch | null; paths: Path2D[] } {
    const known = this.cuts.get(layer.id);
    if (known && known.source === layer.source && known.k === this.k) return known;
    const patch = cut(layer.source, this.axes, this.k);
    const paths = patch && layer.kind === "mask" ? [1, 2, 3].map((level) => outline(patch, level)) : [];
    const fresh = { source: layer.source, k: this.k, patch, paths };
    this.cuts.set(layer.id, fresh);
    return fresh;
  }

  private drawMeasures(context: CanvasRenderingContext2D): void {
    for (const measure of this.viewer.measures) {
      if (measure.slice !== this.axes.slice || measure.k !== this.k) continue;
      const chosen = measure.id === this.viewer.chosenMeasure;
      this.strokeMeasure(context, measure, chosen ? "#ffd27a" : "#7fe3ff");
    }
  }

  private strokeMeasure(context: CanvasRenderingContext2D, measure: Measure, colour: string): void {
    const points = measure.points.map((point) => this.screenAt(point));
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = 1.5;
    context.beginPath();
    if (measure.kind === "ellipse" && points.length === 2) {
      const [[ax, ay], [bx, by]] = points;
      context.ellipse((ax + bx) / 2, (ay + by) / 2, Math.abs(ax - bx) / 2, Math.abs(ay - by) / 2, 0, 0, 2 * Math.PI);
    } else {
      points.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
    }
    context.stroke();
    for (const [x, y] of points) context.fillRect(x - 2.5, y - 2.5, 5, 5);
    const { text, refused } = describe(measure, this.volume, this.axes, this.viewer.channel);
    const words = [text, refused && `(${refused})`].filter(Boolean).join(" ");
    if (words) label(context, words, points[points.length - 1][0] + 8, points[points.length - 1][1] - 8, colour);
  }

  private drawSketch(context: CanvasRenderingContext2D): void {
    const marks = this.viewer.marks;
    for (const mark of marks) {
      if (Math.abs(mark.index[this.axes.slice] - this.k) > 0.5 && mark.kind === "point") continue;
      if (mark.kind !== "point") continue;
      const [x, y] = this.screenAt(mark.index);
      context.strokeStyle = "#000";
      context.lineWidth = 3.5;
      cross(context, x, y, mark.positive);
      context.strokeStyle = mark.positive ? "#7dff9b" : "#ff8f85";
      context.lineWidth = 1.8;
      cross(context, x, y, mark.positive);
    }
    const { sketch } = this.viewer;
    if (!sketch || this.viewer.active !== this || sketch.points.length === 0) return;
    const points = sketch.points.map((point) => this.screenAt(point));
    context.strokeStyle = sketch.positive ? "#7dff9b" : "#ff8f85";
    context.lineWidth = 2;
    context.beginPath();
    if (sketch.kind === "box") {
      const [[ax, ay], [bx, by]] = [points[0], points[points.length - 1]];
      context.rect(Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by));
    } else {
      points.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (sketch.kind === "lasso") context.closePath();
    }
    context.stroke();
  }

  private drawCrosshair(context: CanvasRenderingContext2D, width: number, height: number): void {
    if (!this.viewer.crosshair) return;
    const [x, y] = this.screenAt(this.viewer.cursor);
    const gap = 12;
    context.strokeStyle = this.viewer.active === this ? "#57c4ee" : "rgba(87, 196, 238, 0.6)";
    context.lineWidth = 1;
    context.beginPath();
    for (const [ax, ay, bx, by] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
      context.moveTo(Math.round(ax) + 0.5, Math.round(ay) + 0.5);
      context.lineTo(Math.round(bx) + 0.5, Math.round(by) + 0.5);
    }
    context.stroke();
  }

  // ---- words at the corners ------------------------------------------------------------------------------------------

  private describe(here: boolean): void {
    const { viewer, volume, axes } = this;
    const { image, grid } = volume;
    const oblique = axes.obliqueDegrees > 3 ? `, oblique ${axes.obliqueDegrees.toFixed(0)}°` : "";
    const number = (this.slices > 1 ? ` ${this.k + 1}/${this.slices}` : "") + (image.channels > 1 && !isColour(image) ? `, channel ${viewer.channel + 1}/${image.channels}` : "");
    const unknown = this.letters.left.textContent ? "" : "\nsides not known";
    set(this.title, `${axes.title}${number}${oblique}${unknown}`);
    const index = viewer.cursor;
    const world = toWorld(grid, index);
    const value = inside(grid, index) ? volume.value(index, viewer.channel) : null;
    const where = world ? `${side(world[0], "L", "R")} ${side(world[1], "P", "A")} ${side(world[2], "H", "F")} mm` : `x ${index[2].toFixed(0)} y ${index[1].toFixed(0)}`;
    const amount = value === null || isColour(image) ? "" : `\n${Number.isInteger(value) ? value : value.toFixed(2)}${unitOf(image) ? ` ${unitOf(image)}` : ""}`;
    set(this.place, viewer.active === this ? where + amount : "");
    set(this.shading, isColour(image) ? "" : `C ${round(viewer.window.centre)} W ${round(viewer.window.width)}${viewer.inverted ? " inverted" : ""}`);
    this.slider.value = String(this.k);
    this.slider.setAttribute("aria-valuetext", `slice ${this.k + 1} of ${this.slices}`);
    this.element.classList.toggle("active", viewer.active === this);
    this.element.dataset.slice = String(this.k);
    const missing = here ? "" : volume.problem || "Loading…";
    set(this.waiting, missing);
    this.waiting.hidden = !missing;
  }
}

function set(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

function side(mm: number, plus: string, minus: string): string {
  return `${mm >= 0 ? plus : minus}${Math.abs(mm).toFixed(1)}`;
}

function round(value: number): string {
  return Math.abs(value) >= 20 ? value.toFixed(0) : value.toFixed(2);
}

function cross(context: CanvasRenderingContext2D, x: number, y: number, plus: boolean): void {
  context.beginPath();
  context.moveTo(x - 6, y);
  context.lineTo(x + 6, y);
  if (plus) {
    context.moveTo(x, y - 6);
    context.lineTo(x, y + 6);
  }
  context.stroke();
}

function label(context: CanvasRenderingContext2D, text: string, x: number, y: number, colour: string): void {
  context.font = "13px system-ui, sans-serif";
  const width = context.measureText(text).width;
  const left = Math.max(2, Math.min(x, context.canvas.clientWidth - width - 8));
  context.fillStyle = "rgba(0, 0, 0, 0.7)";
  context.fillRect(left - 3, y - 13, width + 6, 18);
  context.fillStyle = colour;
  context.fillText(text, left, y);
}
