// Distance, angle and an ellipse's mean and spread. Millimetres only where the spacing is known: it is never invented.

import type { ImageItem, Vec3 } from "../api";
import { lengthMm, offsetMm, type PlaneAxes } from "./grid";
import { isColour, unitOf } from "./shade";
import type { Volume } from "./volume";

export type MeasureKind = "distance" | "angle" | "ellipse";

export interface Measure {
  id: number;
  kind: MeasureKind;
  /** Distance: two ends. Angle: end, corner, end. Ellipse: two opposite corners of its frame. */
  points: Vec3[];
  /** The slice axis and slice that it was drawn on. */
  slice: number;
  k: number;
}

export const POINTS: Record<MeasureKind, number> = { distance: 2, angle: 3, ellipse: 2 };

export const NO_SPACING = "no spacing is known: no mm";

/** What a measure says, in words: `text` as drawn beside it, `refused` where something cannot be said. */
export function describe(measure: Measure, volume: Volume, plane: PlaneAxes, channel = 0): { text: string; refused: string } {
  const { grid } = volume;
  const { kind, points } = measure;
  if (points.length < POINTS[kind]) return { text: "", refused: "" };
  if (kind === "distance") {
    const mm = lengthMm(grid, points[0], points[1]);
    if (mm !== null) return { text: `${mm.toFixed(1)} mm${isProjection(volume.image) ? " at the detector" : ""}`, refused: "" };
    const voxels = Math.hypot(...points[0].map((value, axis) => points[1][axis] - value));
    return { text: `${voxels.toFixed(0)} px`, refused: NO_SPACING };
  }
  if (kind === "angle") {
    const one = offsetMm(grid, points[1], points[0]);
    const two = offsetMm(grid, points[1], points[2]);
    if (!one || !two) return { text: "", refused: "no spacing is known: no angle" };
    const cosine = (one[0] * two[0] + one[1] * two[1] + one[2] * two[2]) / (Math.hypot(...one) * Math.hypot(...two));
    return { text: `${((Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI).toFixed(1)}°`, refused: "" };
  }
  return describeEllipse(measure, volume, plane, channel);
}

/** A radiograph's spacing is that of the detector: the patient is smaller, by the magnification. */
function isProjection(image: ImageItem): boolean {
  return !image.affine_zyx_to_lps_mm && ["CR", "DX", "MG", "RF", "XA", "RG"].includes(image.modality);
}

function describeEllipse({ points, k }: Measure, volume: Volume, plane: PlaneAxes, channel: number): { text: string; refused: string } {
  const { grid, image } = volume;
  if (isColour(image)) return { text: "", refused: "a colour picture has no values to average" };
  const [a, b] = points;
  const centre = [0, 1, 2].map((axis) => (a[axis] + b[axis]) / 2);
  const radius = [0, 1, 2].map((axis) => Math.abs(a[axis] - b[axis]) / 2);
  const { across, down, slice } = plane;
  let count = 0;
  let mean = 0;
  let spread = 0;
  const index: Vec3 = [0, 0, 0];
  index[slice] = k;
  for (let v = Math.ceil(centre[down] - radius[down]); v <= centre[down] + radius[down]; v++) {
    for (let u = Math.ceil(centre[across] - radius[across]); u <= centre[across] + radius[across]; u++) {
      if (((u - centre[across]) / radius[across]) ** 2 + ((v - centre[down]) / radius[down]) ** 2 > 1) continue;
      index[across] = u;
      index[down] = v;
      const value = volume.value(index, channel);
      if (value === null) continue;
      // Welford: no sum of squares of large numbers.
      count++;
      const before = value - mean;
      mean += before / count;
      spread += before * (value - mean);
    }
  }
  if (count === 0) return { text: "no pixel inside", refused: "" };
  const sd = count > 1 ? Math.sqrt(spread / (count - 1)) : 0;
  const unit = unitOf(image) ? ` ${unitOf(image)}` : "";
  const digits = image.high - image.low > 50 ? 0 : 2;
  const square = grid.spacing_mm ? grid.spacing_mm[across] * grid.spacing_mm[down] : NaN;
  const area = Number.isFinite(square) ? `${(Math.PI * radius[across] * radius[down] * square).toFixed(0)} mm²${isProjection(image) ? " at the detector" : ""}` : `${count} px`;
  return { text: `${mean.toFixed(digits)} ± ${sd.toFixed(digits)}${unit}, ${area}`, refused: Number.isFinite(square) ? "" : NO_SPACING };
}
