// Voxels to grey or colour: windows, colour maps, and the cutting of one plane out of the volume.

import type { ImageItem } from "../api";
import type { PlaneAxes } from "./grid";
import type { Volume } from "./volume";

/** Three channels that are red, green and blue, not three echoes. */
export function isColour(image: ImageItem): boolean {
  return image.quantity === "RGB" && image.channels === 3;
}

/** The unit as the field writes it; the API's is UCUM. */
export function unitOf(image: ImageItem): string {
  const known: Record<string, string> = { "[hnsf'U]": "HU", "{SUVbw}g/ml": "SUV", "{SUVbsa}cm2/ml": "SUVbsa", "{SUVlbm}g/ml": "SUL" };
  return known[image.unit] ?? image.unit;
}

export interface Window { centre: number; width: number }
export type Palette = "grey" | "hot" | "viridis" | "turbo";

// Stops of the colour maps; between them colours are mixed linearly.
const STOPS: Record<Palette, [number, number, number][]> = {
  grey: [[0, 0, 0], [255, 255, 255]],
  hot: [[0, 0, 0], [140, 0, 0], [255, 60, 0], [255, 170, 0], [255, 255, 80], [255, 255, 255]],
  viridis: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]],
  turbo: [[48, 18, 59], [70, 107, 227], [40, 187, 236], [49, 242, 153], [162, 252, 60], [237, 208, 58], [251, 128, 34], [210, 49, 5], [122, 4, 3]],
};

/** 256 colours as little-endian RGBA words; `alpha` may rise with the value. */
export function palette(name: Palette, alpha: (t: number) => number = () => 255): Uint32Array {
  const stops = STOPS[name];
  const out = new Uint32Array(256);
  for (let k = 0; k < 256; k++) {
    const at = (k / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const mix = (channel: 0 | 1 | 2) => Math.round(stops[low][channel] + (at - low) * (stops[low + 1][channel] - stops[low][channel]));
    out[k] = ((Math.round(alpha(k / 255)) << 24) | (mix(2) << 16) | (mix(1) << 8) | mix(0)) >>> 0;
  }
  return out;
}

export interface Shading { window: Window; inverted: boolean; palette: Palette }

/** Stored value to colour. Whole numbers go through a table of every value that there can be. */
export interface Shader {
  table: Uint32Array | null;
  mask: number;
  colours: Uint32Array;
  scale: number;
  offset: number;
}

/** Linear between the two ends of the window (DICOM PS3.3 C.11.2.1.3.2, "LINEAR_EXACT"). */
export function shaderOf(image: ImageItem, shading: Shading): Shader {
  const width = Math.max(shading.window.width, 1e-9);
  const low = shading.window.centre - width / 2;
  const { slope, intercept, dtype } = image.pixel;
  let scale = (slope * 255) / width;
  let offset = ((intercept - low) * 255) / width;
  if (shading.inverted !== image.dark_is_high) {
    scale = -scale;
    offset = 255 - offset;
  }
  const colours = palette(shading.palette);
  if (dtype === "float32") return { table: null, mask: 0, colours, scale, offset };
  const size = dtype === "uint8" ? 256 : 65536;
  const table = new Uint32Array(size);
  for (let k = 0; k < size; k++) {
    const value = dtype === "int16" && k >= 32768 ? k - 65536 : k;
    const level = Math.round(value * scale + offset);
    table[k] = colours[level < 0 ? 0 : level > 255 ? 255 : level];
  }
  return { table, mask: size - 1, colours, scale, offset };
}

export interface Steps { start: number; across: number; down: number; width: number; height: number }

/** Strides by which a plane of the grid is walked as it lies on the screen. */
export function stepsOf(shape: readonly number[], plane: PlaneAxes, k: number): Steps {
  const stride = [shape[1] * shape[2], shape[2], 1];
  const width = shape[plane.across];
  const height = shape[plane.down];
  let start = k * stride[plane.slice];
  let across = stride[plane.across];
  let down = stride[plane.down];
  if (plane.flipAcross) {
    start += (width - 1) * across;
    across = -across;
  }
  if (plane.flipDown) {
    start += (height - 1) * down;
    down = -down;
  }
  return { start, across, down, width, height };
}

/** Paint plane `k` into `out`, as it lies on the screen; false where nothing of it is here yet. */
export function paint(volume: Volume, plane: PlaneAxes, k: number, shader: Shader, channel: number, out: Uint32Array): boolean {
  const { image } = volume;
  let source = volume.voxels;
  let at = k;
  if (plane.slice === 0) {
    if (!volume.loaded[k]) return false;
    if (!source) {
      source = volume.plane(k);
      at = 0;
    }
  }
  if (!source) return false;
  const steps = stepsOf(image.shape_zyx, plane, at);
  if (isColour(image)) paintColour(source, steps, image.channels, shader, out);
  else if (shader.table) paintTable(source, steps, image.channels, channel, shader.table, shader.mask, out);
  else paintFloat(source, steps, image.channels, channel, shader, out);
  if (plane.slice !== 0) blankMissing(volume, plane, steps, out);
  return true;
}

function paintTable(source: ArrayLike<number>, s: Steps, channels: number, channel: number, table: Uint32Array, mask: number, out: Uint32Array): void {
  let to = 0;
  for (let row = 0; row < s.height; row++) {
    let from = (s.start + row * s.down) * channels + channel;
    const step = s.across * channels;
    for (let col = 0; col < s.width; col++, from += step) out[to++] = table[source[from] & mask];
  }
}

function paintFloat(source: ArrayLike<number>, s: Steps, channels: number, channel: number, { colours, scale, offset }: Shader, out: Uint32Array): void {
  let to = 0;
  for (let row = 0; row < s.height; row++) {
    let from = (s.start + row * s.down) * channels + channel;
    const step = s.across * channels;
    for (let col = 0; col < s.width; col++, from += step) {
      const level = source[from] * scale + offset;
      // Written so that "not a number" becomes the darkest colour too.
      out[to++] = colours[level >= 255 ? 255 : level > 0 ? (level + 0.5) | 0 : 0];
    }
  }
}

function paintColour(source: ArrayLike<number>, s: Steps, channels: number, { table, mask, scale, offset }: Shader, out: Uint32Array): void {
  let to = 0;
  const level = table ? (value: number) => table[value & mask] & 255 : (value: number) => Math.max(0, Math.min(255, Math.round(value * scale + offset)));
  for (let row = 0; row < s.height; row++) {
    for (let col = 0; col < s.width; col++) {
      const from = (s.start + row * s.down + col * s.across) * channels;
      out[to++] = (0xff000000 | (level(source[from + 2]) << 16) | (level(source[from + 1]) << 8) | level(source[from])) >>> 0;
    }
  }
}

/** Rows or columns that belong to planes not here yet are left empty, not drawn as if they were air. */
function blankMissing(volume: Volume, plane: PlaneAxes, s: Steps, out: Uint32Array): void {
  const alongDown = plane.down === 0;
  const count = alongDown ? s.height : s.width;
  const flip = alongDown ? plane.flipDown : plane.flipAcross;
  for (let line = 0; line < count; line++) {
    if (volume.loaded[flip ? count - 1 - line : line]) continue;
    if (alongDown) out.fill(0, line * s.width, (line + 1) * s.width);
    else for (let row = 0; row < s.height; row++) out[row * s.width + line] = 0;
  }
}

const CT_WINDOWS = [
  { name: "Soft tissue", centre: 40, width: 400 },
  { name: "Lung", centre: -600, width: 1500 },
  { name: "Bone", centre: 400, width: 1800 },
  { name: "Brain", centre: 40, width: 80 },
  { name: "Liver", centre: 60, width: 160 },
];

/** The windows to choose from: those of the file, those of the field for CT, and the whole range. */
export function windowsOf(image: ImageItem): { name: string; centre: number; width: number }[] {
  const list = [...image.windows];
  if (image.quantity === "HU") for (const one of CT_WINDOWS) if (!list.some((other) => other.name.toLowerCase() === one.name.toLowerCase())) list.push(one);
  list.push({ name: "Whole range", centre: (image.low + image.high) / 2, width: Math.max(image.high - image.low, 1e-6) });
  return list.slice(0, 9);
}

/** From the middle of what is seen: between the 1st and the 99.5th percentile of a plane. */
export function automaticWindow(volume: Volume, z: number): Window | null {
  const plane = volume.plane(z);
  if (!plane) return null;
  const step = Math.max(1, Math.floor(plane.length / 20000));
  const sample: number[] = [];
  for (let k = 0; k < plane.length; k += step) if (Number.isFinite(plane[k])) sample.push(plane[k]);
  sample.sort((a, b) => a - b);
  const { slope, intercept } = volume.image.pixel;
  const low = sample[Math.floor(sample.length * 0.01)] * slope + intercept;
  const high = sample[Math.min(sample.length - 1, Math.floor(sample.length * 0.995))] * slope + intercept;
  return high > low ? { centre: (low + high) / 2, width: high - low } : null;
}
