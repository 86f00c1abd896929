// Masks and maps as levels on the image's grid: unpacking, cutting a plane out, outlines.

import type { Box, Vec3 } from "../api";
import type { PlaneAxes } from "./grid";

/** Pairs of a level and the length of its run (LEB128), in C order. */
export function unpackRuns(payload: Uint8Array, voxels: number): Uint8Array {
  const out = new Uint8Array(voxels);
  let at = 0;
  let to = 0;
  while (at < payload.length) {
    const level = payload[at++];
    let run = 0;
    let shift = 1;
    for (;;) {
      if (at >= payload.length) throw new Error("a run of levels ends in its middle");
      const byte = payload[at++];
      run += (byte & 127) * shift;
      if (byte < 128) break;
      shift *= 128;
    }
    if (to + run > voxels) throw new Error("the runs of levels are longer than their box");
    if (level) out.fill(level, to, to + run);
    to += run;
  }
  if (to !== voxels) throw new Error(`the runs of levels fill ${to} of ${voxels} voxels`);
  return out;
}

export function boxVoxels(box: Box): number {
  return Math.max(0, box[1] - box[0]) * Math.max(0, box[3] - box[2]) * Math.max(0, box[5] - box[4]);
}

/** Levels inside a box of the grid; outside it all are 0. */
export class LevelBox {
  constructor(
    readonly shape: Vec3,
    readonly box: Box,
    readonly levels: Uint8Array,
  ) {
    if (levels.length !== boxVoxels(box)) throw new Error(`a box of ${boxVoxels(box)} voxels came with ${levels.length}`);
  }

  static empty(shape: Vec3): LevelBox {
    return new LevelBox(shape, [0, 0, 0, 0, 0, 0], new Uint8Array(0));
  }

  /** The same levels with one box of them replaced; the own box grows where it must. */
  replaced(box: Box, levels: Uint8Array): LevelBox {
    if (boxVoxels(box) === 0) return this;
    if (boxVoxels(this.box) === 0) return new LevelBox(this.shape, box, levels);
    const within = [0, 2, 4].every((k) => box[k] >= this.box[k] && box[k + 1] <= this.box[k + 1]);
    const grown = this.box.map((value, k) => (k % 2 ? Math.max(value, box[k]) : Math.min(value, box[k]))) as Box;
    const data = within ? this.levels : new Uint8Array(boxVoxels(grown));
    if (!within) copy(this.levels, this.box, data, grown);
    copy(levels, box, data, grown);
    return new LevelBox(this.shape, grown, data);
  }

  /** Whether anything is at this level or above. */
  some(level: number): boolean {
    return this.levels.some((value) => value >= level);
  }

  /** How many voxels are at this level or above. */
  count(level: number): number {
    let sum = 0;
    for (const value of this.levels) if (value >= level) sum++;
    return sum;
  }
}

function copy(from: Uint8Array, source: Box, to: Uint8Array, target: Box): void {
  const width = source[5] - source[4];
  const rows = source[3] - source[2];
  const targetWidth = target[5] - target[4];
  const targetRows = target[3] - target[2];
  for (let z = source[0]; z < source[1]; z++) {
    for (let y = source[2]; y < source[3]; y++) {
      const start = ((z - source[0]) * rows + (y - source[2])) * width;
      const at = ((z - target[0]) * targetRows + (y - target[2])) * targetWidth + (source[4] - target[4]);
      to.set(from.subarray(start, start + width), at);
    }
  }
}

/** The part of a plane that a box covers, as it lies on the screen. */
export interface Patch { left: number; top: number; width: number; height: number; levels: Uint8Array }

export function cut(source: LevelBox, plane: PlaneAxes, k: number): Patch | null {
  const { box, levels, shape } = source;
  const low = (axis: number) => box[2 * axis];
  const size = (axis: number) => box[2 * axis + 1] - box[2 * axis];
  if (k < low(plane.slice) || k >= low(plane.slice) + size(plane.slice) || levels.length === 0) return null;
  const stride = [size(1) * size(2), size(2), 1];
  const width = size(plane.across);
  const height = size(plane.down);
  const out = new Uint8Array(width * height);
  const base = (k - low(plane.slice)) * stride[plane.slice];
  let some = false;
  for (let row = 0; row < height; row++) {
    const y = plane.flipDown ? height - 1 - row : row;
    for (let col = 0; col < width; col++) {
      const x = plane.flipAcross ? width - 1 - col : col;
      const level = levels[base + y * stride[plane.down] + x * stride[plane.across]];
      if (level) {
        out[row * width + col] = level;
        some = true;
      }
    }
  }
  if (!some) return null;
  const left = plane.flipAcross ? shape[plane.across] - low(plane.across) - width : low(plane.across);
  const top = plane.flipDown ? shape[plane.down] - low(plane.down) - height : low(plane.down);
  return { left, top, width, height, levels: out };
}

/** The outline of everything at `level` or above, along the edges of pixels, in pixels of the plane. */
export function outline(patch: Patch, level: number): Path2D {
  const { width, height, levels, left, top } = patch;
  const path = new Path2D();
  const at = (row: number, col: number) => row >= 0 && col >= 0 && row < height && col < width && levels[row * width + col] >= level;
  for (let row = 0; row <= height; row++) {
    for (let col = 0; col < width; col++) {
      if (at(row, col) === at(row - 1, col)) continue;
      let end = col + 1;
      while (end < width && at(row, end) !== at(row - 1, end)) end++;
      path.moveTo(left + col, top + row);
      path.lineTo(left + end, top + row);
      col = end - 1;
    }
  }
  for (let col = 0; col <= width; col++) {
    for (let row = 0; row < height; row++) {
      if (at(row, col) === at(row, col - 1)) continue;
      let end = row + 1;
      while (end < height && at(end, col) !== at(end, col - 1)) end++;
      path.moveTo(left + col, top + row);
      path.lineTo(left + col, top + end);
      row = end - 1;
    }
  }
  return path;
}

export type LayerKind = "mask" | "map";

/** One coloured layer of the planes. */
export interface Layer {
  id: string;
  name: string;
  kind: LayerKind;
  colour: string;
  opacity: number;
  hidden: boolean;
  source: LevelBox;
}

/** Colours of a layer's levels, little-endian RGBA. */
export function layerColours(layer: Layer): Uint32Array {
  const [r, g, b] = rgb(layer.colour);
  const word = (alpha: number) => ((Math.round(255 * Math.min(1, alpha)) << 24) | (b << 16) | (g << 8) | r) >>> 0;
  if (layer.kind === "map") return Uint32Array.from({ length: 256 }, (_, k) => word((layer.opacity * k) / 255));
  // The band of doubt is paler on both sides of the outline than what is surely inside.
  return Uint32Array.of(0, word(layer.opacity * 0.3), word(layer.opacity * 0.65), word(layer.opacity));
}

export function rgb(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
