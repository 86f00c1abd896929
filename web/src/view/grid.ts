// Where the voxels are: index (z, y, x) to patient millimetres (DICOM LPS) and back, and how a plane of the grid is laid
// on the screen. The wrong side is the gravest mistake that a viewer can make: every flip of the page is decided here.

import type { ImageItem, Vec3 } from "../api";

export type Axis = 0 | 1 | 2;

export interface Grid {
  shape: Vec3;
  /** Rows of the 3x4 part of index -> LPS mm; null where the place in the patient is not known. */
  affine: number[][] | null;
  inverse: number[][] | null;
  /** Along z, y, x; null where it is not known: then nothing is measured in mm. NaN along z where only that is unknown. */
  spacing_mm: Vec3 | null;
}

export type PlaneName = "axial" | "coronal" | "sagittal" | "stored" | "rows" | "columns";

/** How one plane of the grid is shown: which index grows to the right and which downwards, and whether it is turned round. */
export interface PlaneAxes {
  name: PlaneName;
  title: string;
  slice: Axis;
  across: Axis;
  down: Axis;
  flipAcross: boolean;
  flipDown: boolean;
  /** The step of the slice index that leads to the feet, the back or the left: what "next" means. */
  next: 1 | -1;
  /** Angle between the plane and the one that it is called after. */
  obliqueDegrees: number;
}

export function gridOf(image: ImageItem): Grid {
  const affine = image.affine_zyx_to_lps_mm;
  return {
    shape: image.shape_zyx,
    affine,
    inverse: affine ? invert(affine) : null,
    spacing_mm: affine ? spacingOf(affine) : (image.spacing_mm ?? (image.pixel_spacing_mm ? [NaN, ...image.pixel_spacing_mm] : null)),
  };
}

function spacingOf(affine: number[][]): Vec3 {
  return [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis])) as Vec3;
}

export function apply(affine: number[][], [a, b, c]: Vec3): Vec3 {
  return [0, 1, 2].map((row) => affine[row][0] * a + affine[row][1] * b + affine[row][2] * c + affine[row][3]) as Vec3;
}

/** Patient mm of an index; null where the image has no place in the patient. */
export function toWorld(grid: Grid, index_zyx: Vec3): Vec3 | null {
  return grid.affine ? apply(grid.affine, index_zyx) : null;
}

export function toIndex(grid: Grid, point_lps_mm: Vec3): Vec3 | null {
  return grid.inverse ? apply(grid.inverse, point_lps_mm) : null;
}

export function invert(m: number[][]): number[][] {
  const [[a, b, c, p], [d, e, f, q], [g, h, i, r]] = m;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const n = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / det));
  return n.map((row) => [...row, -(row[0] * p + row[1] * q + row[2] * r)]).concat([[0, 0, 0, 1]]);
}

/** First `inner`, then `outer`. */
export function compose(outer: number[][], inner: number[][]): number[][] {
  return outer.map((row) => [0, 1, 2, 3].map((col) => row.reduce((sum, value, k) => sum + value * inner[k][col], 0)));
}

/** For z, y and x: the nearest axis of the patient (0 left, 1 posterior, 2 superior) and the sign; each used once. */
export function closestAxes(affine: number[][]): { axis: Axis; sign: 1 | -1; cosine: number }[] {
  const spacing = spacingOf(affine);
  const cosine = (world: number, axis: number) => affine[world][axis] / spacing[axis];
  const fit = (world: number, axis: number) => Math.round(Math.abs(cosine(world, axis)) * 1e9) / 1e9;
  const orders: Axis[][] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  let best = orders[0];
  let most = [-1, -1, -1];
  for (const order of orders) {
    const total = Math.round((fit(order[0], 0) + fit(order[1], 1) + fit(order[2], 2)) * 1e6) / 1e6;
    // Ties (a grid turned half-way) go to the patient's axes, superior first, as on the server.
    const key = [total, fit(2, order.indexOf(2)), fit(1, order.indexOf(1))];
    const at = key.findIndex((value, k) => value !== most[k]);
    if (at >= 0 && key[at] > most[at]) [best, most] = [order, key];
  }
  return best.map((world, axis) => ({ axis: world, sign: cosine(world, axis) > 0 ? 1 : -1, cosine: Math.abs(cosine(world, axis)) }));
}

/** The planes in which an image is shown, axial first (or its one plane as stored). */
export function planesOf(image: ImageItem, grid: Grid): PlaneAxes[] {
  const stored = (title: string): PlaneAxes => ({ name: "stored", title, slice: 0, across: 2, down: 1, flipAcross: false, flipDown: false, next: 1, obliqueDegrees: 0 });
  if (image.stack === "time") return [stored("frame")];
  if (grid.shape[0] === 1 || grid.shape[1] === 1 || grid.shape[2] === 1) return [grid.affine ? onePlane(grid) : stored("picture")];
  if (!grid.affine) {
    return [
      stored("planes as stored"),
      { name: "rows", title: "along rows", slice: 1, across: 2, down: 0, flipAcross: false, flipDown: false, next: 1, obliqueDegrees: 0 },
      { name: "columns", title: "along columns", slice: 2, across: 1, down: 0, flipAcross: false, flipDown: false, next: 1, obliqueDegrees: 0 },
    ];
  }
  return [anatomical(grid, "axial"), anatomical(grid, "coronal"), anatomical(grid, "sagittal")];
}

// Radiological convention: the patient's right is on the left of the picture, the face is up or to the left, the head up.
const LAYOUT: Record<"axial" | "coronal" | "sagittal", { slice: Axis; across: Axis; down: Axis; downSign: 1 | -1; next: 1 | -1 }> = {
  axial: { slice: 2, across: 0, down: 1, downSign: 1, next: -1 },
  coronal: { slice: 1, across: 0, down: 2, downSign: -1, next: 1 },
  sagittal: { slice: 0, across: 1, down: 2, downSign: -1, next: 1 },
};

function anatomical(grid: Grid, name: "axial" | "coronal" | "sagittal"): PlaneAxes {
  const nearest = closestAxes(grid.affine!);
  const where = (world: Axis): Axis => nearest.findIndex((one) => one.axis === world) as Axis;
  const want = LAYOUT[name];
  const slice = where(want.slice);
  const across = where(want.across);
  const down = where(want.down);
  const normal = cross(direction(grid, across), direction(grid, down));
  const angle = (Math.acos(Math.min(1, Math.abs(normal[want.slice]) / Math.hypot(...normal))) * 180) / Math.PI;
  return {
    name, title: name, slice, across, down,
    flipAcross: nearest[across].sign < 0,
    flipDown: nearest[down].sign !== want.downSign,
    next: (nearest[slice].sign * want.next) as 1 | -1,
    obliqueDegrees: angle,
  };
}

/** A single plane with a place in the patient is shown as the anatomical plane that it is nearest to. */
function onePlane(grid: Grid): PlaneAxes {
  const thin = grid.shape.indexOf(1) as Axis;
  const names: ("axial" | "coronal" | "sagittal")[] = ["sagittal", "coronal", "axial"];
  return anatomical(grid, names[closestAxes(grid.affine!)[thin].axis]);
}

export function direction(grid: Grid, axis: Axis): Vec3 {
  const a = grid.affine!;
  const length = grid.spacing_mm![axis];
  return [a[0][axis] / length, a[1][axis] / length, a[2][axis] / length];
}

function cross(a: Vec3, b: Vec3): Vec3 {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

const LETTERS: [string, string][] = [["L", "R"], ["P", "A"], ["H", "F"]];
const OPPOSITE: Record<string, string> = { L: "R", R: "L", A: "P", P: "A", H: "F", F: "H" };

/** Letters of a direction in LPS: the nearest side, then every side that it leans to by more than 15 degrees. */
export function lettersOf(way: Vec3): string {
  return ([0, 1, 2] as const)
    .map((world) => ({ letter: LETTERS[world][way[world] > 0 ? 0 : 1], share: Math.abs(way[world]) }))
    .sort((a, b) => b.share - a.share)
    .filter((one, rank) => rank === 0 || one.share > Math.sin(Math.PI / 12))
    .map((one) => one.letter)
    .join("");
}

export interface Sides { left: string; right: string; top: string; bottom: string }

/** The letters at the four edges of a plane; empty where the image does not say. */
export function sidesOf(image: ImageItem, grid: Grid, plane: PlaneAxes): Sides {
  const turned = (letters: string) => [...letters].map((letter) => OPPOSITE[letter] ?? "").join("");
  let right = "";
  let bottom = "";
  if (grid.affine) {
    const way = (axis: Axis, flip: boolean) => direction(grid, axis).map((value) => (flip ? -value : value)) as Vec3;
    right = lettersOf(way(plane.across, plane.flipAcross));
    bottom = lettersOf(way(plane.down, plane.flipDown));
  } else if (plane.name === "stored" && image.patient_orientation?.every(Boolean)) {
    [right, bottom] = image.patient_orientation.map((letters) => letters.replaceAll("S", "H").replaceAll("I", "F"));
  }
  return { left: turned(right), right, top: turned(bottom), bottom };
}

export function clampIndex(grid: Grid, index: Vec3): Vec3 {
  return index.map((value, axis) => Math.min(grid.shape[axis] - 1, Math.max(0, value))) as Vec3;
}

export function inside(grid: Grid, index: Vec3): boolean {
  return index.every((value, axis) => value >= -0.5 && value <= grid.shape[axis] - 0.5);
}

export function middle(grid: Grid): Vec3 {
  return grid.shape.map((n) => Math.floor(n / 2)) as Vec3;
}

/** Spacing for drawing alone: what is not known counts as 1. */
export function shownSpacing(grid: Grid): Vec3 {
  return (grid.spacing_mm ?? [1, 1, 1]).map((value) => (Number.isFinite(value) ? value : 1)) as Vec3;
}

/** Length in mm of the way between two indices; null without spacing. */
export function lengthMm(grid: Grid, from: Vec3, to: Vec3): number | null {
  const way = offsetMm(grid, from, to);
  return way && Math.hypot(...way);
}

/** The way between two indices in mm: in the patient where that is known, otherwise along the axes of the grid. */
export function offsetMm(grid: Grid, from: Vec3, to: Vec3): Vec3 | null {
  if (!grid.spacing_mm) return null;
  if (grid.affine) {
    const a = apply(grid.affine, from);
    const b = apply(grid.affine, to);
    return [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
  }
  const way = from.map((value, axis) => (to[axis] === value ? 0 : (to[axis] - value) * grid.spacing_mm![axis])) as Vec3;
  return way.every(Number.isFinite) ? way : null;
}
