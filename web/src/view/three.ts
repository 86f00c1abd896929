// The 3D view: NiiVue, loaded when it is first asked for. Without WebGL2 the page says so and goes on in 2D.

import type { Niivue as NiivueType, NVImage as NVImageType } from "@niivue/niivue";
import type { Api } from "../api";
import { errorText } from "../app";
import { fill, h } from "../dom";
import { rgb, type Layer, type LevelBox } from "./levels";
import type { Viewer } from "./viewer";

export function hasWebGl2(): boolean {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}

export const NO_WEBGL2 = "This browser offers no WebGL2: there is no 3D view here. The planes, marking and reports work without it.";

export class Three {
  private nv: NiivueType | null = null;
  private shown = "";
  private timer = 0;
  /** Counts what was begun: what comes late of something older is let go. */
  private turn = 0;
  private canvas: HTMLCanvasElement | null = null;

  constructor(
    private readonly host: HTMLElement,
    private readonly api: Api,
    private readonly viewer: Viewer,
    private readonly masks: () => Layer[],
  ) {
    this.idle();
  }

  private idle(text = ""): void {
    fill(this.host, h("div", { class: "offer" },
      text ? h("p", { class: "warn", role: "status" }, text) : null,
      this.available ? h("button", { type: "button", title: "3D view (T)", "aria-keyshortcuts": "t", onclick: () => void this.show() }, "Show in 3D") : null,
    ));
  }

  get available(): boolean {
    const { image } = this.viewer;
    return Boolean(image?.affine_zyx_to_lps_mm && image.channels === 1 && Math.min(...image.shape_zyx) > 1 && !this.viewer.volume?.sparse);
  }

  /** The image has changed: what was drawn is no longer true. */
  reset(): void {
    this.shown = "";
    this.close();
    this.idle();
  }

  async show(): Promise<void> {
    const { image } = this.viewer;
    if (!image || this.shown === image.id) return;
    if (!this.available) return this.idle("This image has no volume that could be shown in 3D.");
    if (!hasWebGl2()) return this.idle(NO_WEBGL2);
    this.shown = image.id;
    const turn = ++this.turn;
    let nv: NiivueType | null = null;
    fill(this.host, h("p", { class: "offer quiet", role: "status" }, "Loading the 3D view…"));
    try {
      const [{ Niivue, NVImage, SLICE_TYPE }, buffer] = await Promise.all([import("@niivue/niivue"), this.api.bytes(`images/${encodeURIComponent(image.id)}/nifti`)]);
      if (turn !== this.turn) return;
      this.canvas = h("canvas", { "aria-label": "3D view; drag to turn" });
      fill(this.host, this.canvas, h("div", { class: "corner tl" }, "3D"));
      nv = new Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, loadingText: "", isResizeCanvas: true, dragAndDropEnabled: false, isOrientCube: true });
      await nv.attachToCanvas(this.canvas);
      const volume = await NVImage.loadFromUrl({ url: buffer, name: "image.nii", colormap: "gray" });
      if (turn !== this.turn) return release(nv);
      nv.addVolume(volume);
      nv.setSliceType(SLICE_TYPE.RENDER);
      nv.setClipPlane([2, 0, 0]);
      this.nv = nv;
      this.refresh();
    } catch (error) {
      if (nv) release(nv);
      if (turn !== this.turn) return;
      this.shown = "";
      this.close();
      this.idle(`The 3D view could not be shown: ${errorText(error)}`);
    }
  }

  /** Window and mask as in the planes; many changes in a row are drawn once. */
  refresh(): void {
    if (!this.nv) return;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.update(), 150);
  }

  private async update(): Promise<void> {
    const { nv } = this;
    const { image } = this.viewer;
    if (!nv || !image || !nv.volumes[0]) return;
    const turn = ++this.turn;
    const { NVImage } = await import("@niivue/niivue");
    const masks: NVImageType[] = [];
    for (const layer of this.masks()) {
      if (layer.kind !== "mask" || layer.hidden || !layer.source.some(2)) continue;
      const colormap = `of ${layer.colour}`;
      const [r, g, b] = rgb(layer.colour);
      nv.addColormap(colormap, { R: [0, r], G: [0, g], B: [0, b], A: [0, 255], I: [0, 255] });
      masks.push(await NVImage.loadFromUrl({ url: maskNifti(layer.source, image.affine_zyx_to_lps_mm!), name: `${layer.id}.nii`, colormap, opacity: 0.85, cal_min: 0.4, cal_max: 1 }));
    }
    // A newer mask, or another image, is under way: this one would stay beside it.
    if (turn !== this.turn) return;
    const grey = this.viewer.window;
    nv.volumes[0].cal_min = grey.centre - grey.width / 2;
    nv.volumes[0].cal_max = grey.centre + grey.width / 2;
    while (nv.volumes.length > 1) nv.removeVolumeByIndex(nv.volumes.length - 1);
    for (const mask of masks) nv.addVolume(mask);
    nv.updateGLVolume();
    this.follow();
  }

  /** The crosshair of the planes; NiiVue's world is RAS. */
  follow(): void {
    const point = this.viewer.cursorWorld;
    if (!this.nv || !point || !this.nv.volumes[0]) return;
    this.nv.scene.crosshairPos = this.nv.mm2frac([-point[0], -point[1], point[2]]);
    this.nv.drawScene();
  }

  close(): void {
    this.turn++;
    clearTimeout(this.timer);
    if (this.nv) release(this.nv);
    this.nv = null;
    this.canvas?.remove();
    this.canvas = null;
  }
}

/** A browser has few contexts to give: one that is left is given back. */
function release(nv: NiivueType): void {
  nv.gl?.getExtension("WEBGL_lose_context")?.loseContext();
}

/**
 * A NIfTI-1 file of the mask (levels 2 and 3) on the whole grid of its image.
 *
 * NIfTI's world is RAS: the first two rows of the LPS affine change their sign here, and its first index is x.
 */
export function maskNifti(levels: LevelBox, affine_zyx_to_lps_mm: number[][]): ArrayBuffer {
  const [nz, ny, nx] = levels.shape;
  const buffer = new ArrayBuffer(352 + nz * ny * nx);
  const head = new DataView(buffer);
  head.setInt32(0, 348, true);
  [3, nx, ny, nz, 1, 1, 1, 1].forEach((value, at) => head.setInt16(40 + 2 * at, value, true));
  head.setInt16(70, 2, true);
  head.setInt16(72, 8, true);
  const column = (axis: number) => [0, 1, 2].map((row) => affine_zyx_to_lps_mm[row][axis] * (row < 2 ? -1 : 1));
  const columns = [column(2), column(1), column(0), column(3)];
  [1, ...columns.slice(0, 3).map((c) => Math.hypot(...c)), 1, 1, 1, 1].forEach((value, at) => head.setFloat32(76 + 4 * at, value, true));
  head.setFloat32(108, 352, true);
  head.setFloat32(112, 1, true);
  head.setUint8(123, 2);
  head.setInt16(254, 1, true);
  for (let row = 0; row < 3; row++) columns.forEach((c, at) => head.setFloat32(280 + 16 * row + 4 * at, c[row], true));
  [0x6e, 0x2b, 0x31, 0].forEach((value, at) => head.setUint8(344 + at, value));
  const out = new Uint8Array(buffer, 352);
  const [z0, z1, y0, y1, x0, x1] = levels.box;
  let from = 0;
  for (let z = z0; z < z1; z++) for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) out[(z * ny + y) * nx + x] = levels.levels[from++] >= 2 ? 1 : 0;
  return buffer;
}
