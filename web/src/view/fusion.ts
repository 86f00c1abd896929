// A second image drawn in colour over the planes of the first, fetched at the same patient coordinates.

import { compose, type Axis, type PlaneAxes } from "./grid";
import { palette, type Palette, type Window } from "./shade";
import type { Volume } from "./volume";

export interface Fusion {
  volume: Volume;
  palette: Palette;
  window: Window;
  opacity: number;
  sampling: "trilinear" | "nearest";
}

/** Why two images cannot be laid over each other; empty where they can. */
export function whyNotFused(below: Volume, above: Volume): string {
  if (!below.grid.affine || !above.grid.affine) return "One of the images has no place in the patient.";
  if (above.sparse) return "The image is too large to be held whole.";
  if (above.image.channels !== 1) return "A colour picture cannot be laid over another.";
  return "";
}

/** Whether both are said to lie in one frame of reference; null where one does not say. */
export function sameFrame(below: Volume, above: Volume): boolean | null {
  const [a, b] = [below.image.frame, above.image.frame];
  return a && b ? a === b : null;
}

/**
 * Paint plane `k` of `below` with the values of the other image at the same points of the patient.
 *
 * Every pixel's index in the other grid is an affine function of its row and column, so the walk is three additions a
 * pixel. Outside the other image, and where its planes are not here yet, nothing is painted.
 */
export function paintFusion(below: Volume, plane: PlaneAxes, k: number, fusion: Fusion, out: Uint32Array): void {
  const { volume } = fusion;
  const voxels = volume.voxels!;
  const [nz, ny, nx] = volume.image.shape_zyx;
  const shape = below.image.shape_zyx;
  const width = shape[plane.across];
  const height = shape[plane.down];
  const m = compose(volume.grid.inverse!, below.grid.affine!);
  const start: number[] = [0, 0, 0];
  start[plane.slice] = k;
  if (plane.flipAcross) start[plane.across] = width - 1;
  if (plane.flipDown) start[plane.down] = height - 1;
  const begin = [0, 1, 2].map((row) => m[row][0] * start[0] + m[row][1] * start[1] + m[row][2] * start[2] + m[row][3]);
  const step = (axis: Axis, flip: boolean) => [0, 1, 2].map((row) => (flip ? -m[row][axis] : m[row][axis]));
  const right = step(plane.across, plane.flipAcross);
  const down = step(plane.down, plane.flipDown);

  const colours = palette(fusion.palette, (t) => 255 * Math.min(1, t * 3));
  const { slope, intercept } = volume.image.pixel;
  const scale = 255 / Math.max(fusion.window.width, 1e-9);
  const low = fusion.window.centre - fusion.window.width / 2;
  const { loaded } = volume;
  const smooth = fusion.sampling === "trilinear";
  const planeSize = ny * nx;
  let to = 0;
  for (let row = 0; row < height; row++) {
    let z = begin[0] + row * down[0];
    let y = begin[1] + row * down[1];
    let x = begin[2] + row * down[2];
    for (let col = 0; col < width; col++, to++, z += right[0], y += right[1], x += right[2]) {
      if (z < -0.5 || y < -0.5 || x < -0.5 || z > nz - 0.5 || y > ny - 0.5 || x > nx - 0.5) {
        out[to] = 0;
        continue;
      }
      let value: number;
      if (smooth) {
        const cz = z < 0 ? 0 : z > nz - 1 ? nz - 1 : z;
        const cy = y < 0 ? 0 : y > ny - 1 ? ny - 1 : y;
        const cx = x < 0 ? 0 : x > nx - 1 ? nx - 1 : x;
        const z0 = cz | 0;
        const y0 = cy | 0;
        const x0 = cx | 0;
        const z1 = z0 < nz - 1 ? z0 + 1 : z0;
        if (!loaded[z0] || !loaded[z1]) {
          out[to] = 0;
          continue;
        }
        const fz = cz - z0;
        const fy = cy - y0;
        const fx = cx - x0;
        const dy = y0 < ny - 1 ? nx : 0;
        const dx = x0 < nx - 1 ? 1 : 0;
        const a = z0 * planeSize + y0 * nx + x0;
        const b = z1 * planeSize + y0 * nx + x0;
        const near = (voxels[a] * (1 - fx) + voxels[a + dx] * fx) * (1 - fy) + (voxels[a + dy] * (1 - fx) + voxels[a + dy + dx] * fx) * fy;
        const far = (voxels[b] * (1 - fx) + voxels[b + dx] * fx) * (1 - fy) + (voxels[b + dy] * (1 - fx) + voxels[b + dy + dx] * fx) * fy;
        value = near * (1 - fz) + far * fz;
      } else {
        const z0 = Math.min(nz - 1, Math.max(0, Math.round(z)));
        const y0 = Math.min(ny - 1, Math.max(0, Math.round(y)));
        const x0 = Math.min(nx - 1, Math.max(0, Math.round(x)));
        if (!loaded[z0]) {
          out[to] = 0;
          continue;
        }
        value = voxels[z0 * planeSize + y0 * nx + x0];
      }
      const level = (value * slope + intercept - low) * scale;
      out[to] = colours[level >= 255 ? 255 : level > 0 ? level | 0 : 0];
    }
  }
}
