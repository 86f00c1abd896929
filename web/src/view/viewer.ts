// One image in its planes: slices, crosshair, window, layers. Two of these stand side by side in a comparison.

import type { ImageItem, Vec3 } from "../api";
import { fill, h } from "../dom";
import type { Fusion } from "./fusion";
import { clampIndex, middle, planesOf, toIndex, toWorld, type Grid } from "./grid";
import type { Layer } from "./levels";
import type { Measure } from "./measure";
import { PlaneView, type Sketch } from "./plane";
import { automaticWindow, shaderOf, windowsOf, type Shader, type Window } from "./shade";
import type { Volume, Volumes } from "./volume";

/** "leave": another image is about to take the place of this one; "image": it has. */
export type What = "cursor" | "leave" | "image" | "window" | "slice" | "view";
export type Layout = "grid" | "one";
export interface Mark { index: Vec3; kind: string; positive: boolean }

export class Viewer {
  readonly element = h("div", { class: "planes" });
  /** The fourth field of the grid: the 3D view is put there. */
  readonly fourth = h("div", { class: "plane fourth" });
  planes: PlaneView[] = [];
  active: PlaneView | null = null;
  layout: Layout = "grid";
  window: Window = { centre: 0, width: 1 };
  inverted = false;
  smooth = true;
  crosshair = true;
  /** Which of several values at a voxel is shown (echoes, time points). */
  channel = 0;
  cursor: Vec3 = [0, 0, 0];
  layers: Layer[] = [];
  fusion: Fusion | null = null;
  measures: Measure[] = [];
  chosenMeasure = 0;
  marks: Mark[] = [];
  sketch: Sketch | null = null;
  volume: Volume | null = null;
  shader!: Shader;
  shadingKey = "";
  private unsubscribe: () => void = () => {};
  private readonly listeners = new Set<(what: What) => void>();
  private readonly measuresOf = new Map<string, Measure[]>();
  private readonly windowOf = new Map<string, { window: Window; inverted: boolean }>();
  private windowChosen = false;

  constructor(private readonly volumes: Volumes) {}

  get image(): ImageItem | null {
    return this.volume?.image ?? null;
  }

  get grid(): Grid | null {
    return this.volume?.grid ?? null;
  }

  on(listener: (what: What) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private tell(what: What): void {
    for (const listener of this.listeners) listener(what);
  }

  dispose(): void {
    this.unsubscribe();
    for (const plane of this.planes) plane.dispose();
    this.planes = [];
    this.listeners.clear();
  }

  // ---- image ---------------------------------------------------------------------------------------------------------

  show(image: ImageItem | null): void {
    if (this.image?.id === image?.id) return;
    this.tell("leave");
    this.unsubscribe();
    if (this.volume) {
      this.measuresOf.set(this.volume.image.id, this.measures);
      if (this.windowChosen) this.windowOf.set(this.volume.image.id, { window: this.window, inverted: this.inverted });
    }
    for (const plane of this.planes) plane.dispose();
    this.planes = [];
    this.active = null;
    this.volume = null;
    this.sketch = null;
    this.marks = [];
    this.fusion = null;
    this.channel = 0;
    if (!image) {
      fill(this.element);
      this.tell("image");
      return;
    }
    const volume = this.volumes.get(image);
    this.volume = volume;
    this.cursor = middle(volume.grid);
    this.measures = this.measuresOf.get(image.id) ?? [];
    this.chosenMeasure = 0;
    const kept = this.windowOf.get(image.id);
    const first = windowsOf(image)[0];
    this.inverted = kept?.inverted ?? false;
    this.windowChosen = kept !== undefined || image.windows.length > 0 || image.quantity === "HU";
    this.setShading(kept?.window ?? { centre: first.centre, width: first.width });
    // Of a volume that is not held whole only the stored planes can be shown.
    const axes = planesOf(image, volume.grid).filter((one) => !volume.sparse || one.slice === 0);
    this.planes = axes.map((one) => new PlaneView(this, volume, one));
    for (const plane of this.planes) plane.k = Math.round(this.cursor[plane.axes.slice]);
    this.active = this.planes[0];
    this.arrange();
    this.unsubscribe = volume.subscribe(() => this.arrived());
    volume.prefer(this.cursor[0]);
    this.arrived();
    this.tell("image");
  }

  private arrived(): void {
    const { volume } = this;
    if (!volume) return;
    if (!this.windowChosen && volume.loaded[Math.round(this.cursor[0])]) {
      const found = automaticWindow(volume, Math.round(this.cursor[0]));
      this.windowChosen = true;
      if (found) this.setWindow(found);
    }
    for (const plane of this.planes) plane.invalidate();
  }

  // ---- layout --------------------------------------------------------------------------------------------------------

  setLayout(layout: Layout): void {
    this.layout = layout;
    this.arrange();
  }

  get isGrid(): boolean {
    return this.layout === "grid" && this.planes.length > 1;
  }

  private arrange(): void {
    this.element.classList.toggle("grid", this.isGrid);
    const shown = this.isGrid ? this.planes : this.planes.filter((plane) => plane === this.active);
    fill(this.element, shown.map((plane) => plane.element), this.isGrid ? this.fourth : null);
    this.invalidate();
  }

  activate(plane: PlaneView): void {
    if (this.active === plane) return;
    this.active = plane;
    if (!this.isGrid) this.arrange();
    this.invalidate();
    this.tell("slice");
  }

  nextPlane(step: number): void {
    if (!this.active || this.planes.length < 2) return;
    const next = this.planes[(this.planes.indexOf(this.active) + step + this.planes.length) % this.planes.length];
    this.activate(next);
    next.element.focus({ preventScroll: true });
  }

  invalidate(deep = false): void {
    for (const plane of this.planes) plane.invalidate(deep);
  }

  resetView(): void {
    for (const plane of this.planes) {
      plane.zoom = 1;
      plane.pan = [0, 0];
    }
    this.looked();
    this.invalidate();
  }

  /** Zoom or place of a plane has changed. */
  looked(): void {
    this.tell("view");
  }

  // ---- slices and crosshair ------------------------------------------------------------------------------------------

  /** Go to an index; every plane shows the slice that holds it. */
  setCursor(index: Vec3): void {
    if (!this.volume) return;
    this.cursor = clampIndex(this.volume.grid, index);
    for (const plane of this.planes) plane.k = Math.round(this.cursor[plane.axes.slice]);
    this.volume.prefer(this.cursor[0]);
    this.invalidate();
    this.tell("cursor");
  }

  /** Go to a place of the patient; false where this image does not hold it. */
  setCursorWorld(point: Vec3): boolean {
    const index = this.grid && toIndex(this.grid, point);
    if (!index) return false;
    this.setCursor(index);
    return true;
  }

  get cursorWorld(): Vec3 | null {
    return this.grid && toWorld(this.grid, this.cursor);
  }

  showSlice(plane: PlaneView, k: number): void {
    const next: Vec3 = [...this.cursor];
    next[plane.axes.slice] = Math.min(plane.slices - 1, Math.max(0, k));
    this.setCursor(next);
  }

  /** Scroll the active plane: to the feet, to the back, to the left. */
  scroll(step: number, plane: PlaneView | null = this.active): void {
    if (plane) this.showSlice(plane, plane.k + step * plane.axes.next);
  }

  /** Move the crosshair by pixels of the active plane, as seen on the screen. */
  nudge(right: number, down: number): void {
    const plane = this.active;
    if (!plane) return;
    const { across, down: along, flipAcross, flipDown } = plane.axes;
    const next: Vec3 = [...this.cursor];
    next[across] = Math.round(next[across]) + (flipAcross ? -right : right);
    next[along] = Math.round(next[along]) + (flipDown ? -down : down);
    this.setCursor(next);
  }

  // ---- window --------------------------------------------------------------------------------------------------------

  setWindow(window: Window): void {
    this.windowChosen = true;
    this.setShading({ centre: window.centre, width: Math.max(window.width, 1e-6) });
    this.tell("window");
  }

  dragWindow(dx: number, dy: number, from: Window): void {
    this.setWindow({ centre: from.centre + (dy * from.width) / 300, width: from.width * Math.exp(dx / 200) });
  }

  automatic(): void {
    const found = this.volume && automaticWindow(this.volume, Math.round(this.cursor[0]));
    if (found) this.setWindow(found);
  }

  showChannel(step: number): void {
    if (!this.image) return;
    this.channel = (this.channel + step + this.image.channels) % this.image.channels;
    this.setShading(this.window);
    this.tell("window");
  }

  invert(): void {
    this.inverted = !this.inverted;
    this.setShading(this.window);
    this.tell("window");
  }

  private setShading(window: Window): void {
    this.window = window;
    if (!this.image) return;
    this.shader = shaderOf(this.image, { window, inverted: this.inverted, palette: "grey" });
    this.shadingKey = `${window.centre}|${window.width}|${this.inverted}|${this.channel}`;
    this.invalidate();
  }
}
