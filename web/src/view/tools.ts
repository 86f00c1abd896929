// Hands on the planes: what a drag, a click, the wheel or the space bar does with the tool in hand.

import type { Vec3 } from "../api";
import { inside } from "./grid";
import { POINTS, type Measure, type MeasureKind } from "./measure";
import type { PlaneView, Sketch } from "./plane";
import type { Window } from "./shade";
import type { Viewer } from "./viewer";

export type Tool = "crosshair" | "pan" | "zoom" | "window" | "point" | "box" | "scribble" | "lasso" | "erase" | MeasureKind;
export const PROMPT_TOOLS: Tool[] = ["point", "box", "scribble", "lasso", "erase"];
export const MEASURE_TOOLS: Tool[] = ["distance", "angle", "ellipse"];

/** What was pointed at, in indices of the image's grid. */
export interface Gesture { kind: "point" | "box" | "scribble" | "lasso"; positive: boolean; points: Vec3[]; plane: PlaneView }

type Drag =
  | { what: "window"; x: number; y: number; from: Window }
  | { what: "pan"; x: number; y: number; from: [number, number] }
  | { what: "zoom"; y: number; atX: number; atY: number }
  | { what: "crosshair" }
  | { what: "sketch"; opposite: boolean }
  | { what: "measure"; measure: Measure }
  | { what: "point"; x: number; y: number; opposite: boolean };

let measureNumber = 1;

export class Tools {
  tool: Tool = "crosshair";
  positive = true;
  private drag: (Drag & { plane: PlaneView; pointer: number }) | null = null;
  private open: Measure | null = null;
  private wheel = 0;
  private readonly stop = new AbortController();

  constructor(
    readonly viewer: Viewer,
    private readonly onGesture: (gesture: Gesture) => void,
    private readonly onTool: () => void,
    private readonly mayPrompt: () => boolean,
  ) {
    const listen = <K extends keyof HTMLElementEventMap>(name: K, act: (event: HTMLElementEventMap[K]) => void, options: AddEventListenerOptions = {}) =>
      viewer.element.addEventListener(name, act as EventListener, { signal: this.stop.signal, ...options });
    listen("pointerdown", (event) => this.down(event));
    listen("pointermove", (event) => this.move(event));
    listen("pointerup", (event) => this.up(event));
    listen("pointercancel", () => this.cancel());
    listen("contextmenu", (event) => event.preventDefault());
    listen("wheel", (event) => this.turn(event), { passive: false });
    // What was begun on one image is in indices of its grid: it does not go on in another.
    this.stop.signal.addEventListener("abort", viewer.on((what) => what === "leave" && this.cancel()));
  }

  dispose(): void {
    this.stop.abort();
  }

  choose(tool: Tool, positive = true): void {
    this.cancel();
    this.tool = tool;
    this.positive = positive;
    this.viewer.element.dataset.tool = tool;
    this.onTool();
  }

  /** Leave what has been begun; false where nothing was. */
  cancel(): boolean {
    const begun = this.drag !== null || this.open !== null || this.viewer.sketch !== null;
    const half = this.drag?.what === "measure" ? this.drag.measure : this.open;
    if (half) this.viewer.measures = this.viewer.measures.filter((one) => one !== half);
    this.drag = null;
    this.open = null;
    this.viewer.sketch = null;
    this.viewer.invalidate();
    if (half) this.onTool();
    return begun;
  }

  // ---- pointer -------------------------------------------------------------------------------------------------------

  private planeOf(event: Event): PlaneView | null {
    return this.viewer.planes.find((plane) => event.target instanceof Node && plane.element.contains(event.target)) ?? null;
  }

  private at(event: MouseEvent, plane: PlaneView): { x: number; y: number; index: Vec3 } {
    const box = plane.element.getBoundingClientRect();
    const x = event.clientX - box.left - plane.element.clientLeft;
    const y = event.clientY - box.top - plane.element.clientTop;
    return { x, y, index: plane.indexAt(x, y) };
  }

  private down(event: PointerEvent): void {
    const plane = this.planeOf(event);
    if (!plane || (event.target as HTMLElement).closest("input, button")) return;
    plane.element.focus({ preventScroll: true });
    this.viewer.activate(plane);
    const { x, y, index } = this.at(event, plane);
    const drag = this.begin(event, plane, x, y, index);
    if (!drag) return;
    this.drag = { ...drag, plane, pointer: event.pointerId };
    plane.element.setPointerCapture(event.pointerId);
    event.preventDefault();
    this.move(event);
  }

  private begin(event: PointerEvent, plane: PlaneView, x: number, y: number, index: Vec3): Drag | null {
    const { viewer, tool } = this;
    if (event.button === 2 || (event.button === 0 && tool === "window")) return { what: "window", x: event.clientX, y: event.clientY, from: viewer.window };
    if (event.button === 1 || event.shiftKey || tool === "pan") return { what: "pan", x: event.clientX, y: event.clientY, from: plane.pan };
    if (event.button !== 0) return null;
    if (tool === "zoom") return { what: "zoom", y: event.clientY, atX: x, atY: y };
    if (tool === "crosshair") return { what: "crosshair" };
    if (!inside(plane.volume.grid, index)) return null;
    if (tool === "angle") {
      this.placeMeasure("angle", index, plane);
      return null;
    }
    if (tool === "distance" || tool === "ellipse") {
      const measure = this.newMeasure(tool, index, plane);
      measure.points.push(index);
      return { what: "measure", measure };
    }
    if (!this.mayPrompt()) return null;
    if (tool === "point") return { what: "point", x, y, opposite: event.altKey };
    viewer.sketch = this.newSketch(index, event.altKey);
    return { what: "sketch", opposite: event.altKey };
  }

  private move(event: PointerEvent): void {
    const { drag, viewer } = this;
    if (!drag) {
      const plane = this.open && this.planeOf(event);
      if (this.open && plane && plane === viewer.active) {
        stretch(this.open, this.at(event, plane).index, plane);
        plane.invalidate();
      }
      return;
    }
    if (event.pointerId !== drag.pointer) return;
    const { index } = this.at(event, drag.plane);
    if (drag.what === "window") viewer.dragWindow(event.clientX - drag.x, event.clientY - drag.y, drag.from);
    else if (drag.what === "pan") {
      drag.plane.pan = [drag.from[0] + event.clientX - drag.x, drag.from[1] + event.clientY - drag.y];
      viewer.looked();
    }
    else if (drag.what === "zoom") {
      drag.plane.zoomBy(Math.exp((drag.y - event.clientY) / 150), drag.atX, drag.atY);
      drag.y = event.clientY;
    } else if (drag.what === "crosshair") viewer.setCursor(index);
    else if (drag.what === "measure") stretch(drag.measure, index, drag.plane);
    else if (drag.what === "sketch") {
      for (const one of event.getCoalescedEvents?.() ?? []) this.extend(this.at(one, drag.plane).index, drag.plane);
      this.extend(index, drag.plane);
    }
    drag.plane.invalidate();
  }

  private up(event: PointerEvent): void {
    const { drag, viewer } = this;
    if (!drag || event.pointerId !== drag.pointer) return;
    this.drag = null;
    const { x, y, index } = this.at(event, drag.plane);
    if (drag.what === "point" && Math.hypot(x - drag.x, y - drag.y) < 6) {
      this.finish({ kind: "point", positive: this.positive !== drag.opposite, points: [index], plane: drag.plane });
    } else if (drag.what === "sketch" && viewer.sketch) {
      this.endSketch(drag.plane);
    } else if (drag.what === "measure") {
      const [a, b] = drag.measure.points.map((point) => drag.plane.screenAt(point));
      if (Math.hypot(a[0] - b[0], a[1] - b[1]) < 3) viewer.measures = viewer.measures.filter((one) => one !== drag.measure);
      viewer.chosenMeasure = drag.measure.id;
      this.onTool();
    }
    viewer.invalidate();
  }

  private turn(event: WheelEvent): void {
    const plane = this.planeOf(event);
    if (!plane) return;
    event.preventDefault();
    const { x, y } = this.at(event, plane);
    if (event.ctrlKey || plane.slices === 1) {
      plane.zoomBy(Math.exp(-event.deltaY / 300), x, y);
      return;
    }
    // A mouse's notch is one slice; a touchpad's many small steps are added up.
    this.wheel += event.deltaMode === 0 ? event.deltaY : event.deltaY * 40;
    const steps = Math.trunc(this.wheel / 40) || (Math.abs(event.deltaY) >= 100 ? Math.sign(event.deltaY) : 0);
    if (!steps) return;
    this.wheel = 0;
    this.viewer.scroll(Math.abs(event.deltaY) >= 100 ? Math.sign(event.deltaY) : steps, plane);
  }

  // ---- the space bar in place of the pointer -------------------------------------------------------------------------

  /** Do at the crosshair what a click does; gestures of several points begin and end with it. */
  press(opposite = false): void {
    const { viewer, tool } = this;
    const plane = viewer.active;
    if (!plane) return;
    const index: Vec3 = [...viewer.cursor];
    index[plane.axes.slice] = plane.k;
    if (tool === "distance" || tool === "angle" || tool === "ellipse") {
      this.placeMeasure(tool, index, plane);
    } else if (tool === "point") {
      if (this.mayPrompt()) this.finish({ kind: "point", positive: this.positive !== opposite, points: [index], plane });
    } else if (tool === "box" || tool === "scribble" || tool === "lasso" || tool === "erase") {
      if (viewer.sketch) this.endSketch(plane);
      else if (this.mayPrompt()) viewer.sketch = this.newSketch(index, opposite);
      viewer.invalidate();
    }
  }

  /** The crosshair has been moved by keys: what has been begun grows with it. */
  followCursor(): void {
    const plane = this.viewer.active;
    if (!plane || this.drag) return;
    const index: Vec3 = [...this.viewer.cursor];
    index[plane.axes.slice] = plane.k;
    if (this.viewer.sketch) this.extend(index, plane);
    if (this.open) stretch(this.open, index, plane);
    plane.invalidate();
  }

  // ---- measures ------------------------------------------------------------------------------------------------------

  private newMeasure(kind: MeasureKind, index: Vec3, plane: PlaneView): Measure {
    const measure: Measure = { id: measureNumber++, kind, points: [index], slice: plane.axes.slice, k: plane.k };
    this.viewer.measures = [...this.viewer.measures, measure];
    this.viewer.chosenMeasure = measure.id;
    return measure;
  }

  /** Point after point: the last one moves along until it is fixed too. */
  private placeMeasure(kind: MeasureKind, index: Vec3, plane: PlaneView): void {
    if (this.open && (this.open.slice !== plane.axes.slice || this.open.k !== plane.k)) this.cancel();
    if (!this.open) {
      this.open = this.newMeasure(kind, index, plane);
      this.open.points.push(index);
    } else {
      this.open.points[this.open.points.length - 1] = index;
      if (this.open.points.length === POINTS[kind]) this.open = null;
      else this.open.points.push(index);
    }
    this.viewer.invalidate();
    this.onTool();
  }

  deleteMeasure(): boolean {
    const { viewer } = this;
    if (!viewer.measures.some((one) => one.id === viewer.chosenMeasure)) return false;
    if (this.open?.id === viewer.chosenMeasure) this.open = null;
    viewer.measures = viewer.measures.filter((one) => one.id !== viewer.chosenMeasure);
    viewer.chosenMeasure = viewer.measures.at(-1)?.id ?? 0;
    viewer.invalidate();
    this.onTool();
    return true;
  }

  // ---- prompts -------------------------------------------------------------------------------------------------------

  private newSketch(index: Vec3, opposite: boolean): Sketch {
    const kind = this.tool as Sketch["kind"];
    const positive = kind === "erase" ? false : this.positive !== opposite;
    return { points: kind === "box" ? [index, index] : [index], kind, positive };
  }

  private extend(index: Vec3, plane: PlaneView): void {
    const { sketch } = this.viewer;
    if (!sketch || !inside(plane.volume.grid, index)) return;
    const { points } = sketch;
    if (sketch.kind === "box") {
      points[1] = index;
      return;
    }
    const last = points[points.length - 1];
    // Half a voxel is as fine as an answer can be.
    if (Math.hypot(...last.map((value, axis) => value - index[axis])) >= 0.5) points.push(index);
  }

  private endSketch(plane: PlaneView): void {
    const { sketch } = this.viewer;
    this.viewer.sketch = null;
    if (!sketch) return;
    const { points, positive } = sketch;
    const kind = sketch.kind === "erase" ? "scribble" : (sketch.kind as Gesture["kind"]);
    const flat = (axis: number) => points.every((point) => Math.abs(point[axis] - points[0][axis]) < 0.5);
    if (kind === "box" && (flat(plane.axes.across) || flat(plane.axes.down))) return;
    if (kind === "lasso" && points.length < 3) return;
    this.finish({ kind, positive, points, plane });
  }

  private finish(gesture: Gesture): void {
    if (!gesture.points.every((point) => inside(gesture.plane.volume.grid, point))) return;
    if (gesture.kind === "point") this.viewer.setCursor(gesture.points[0]);
    this.onGesture(gesture);
  }
}

/** Move the last point of a measure; it stays on the slice that it is drawn on, whatever the wheel has turned to. */
function stretch(measure: Measure, index: Vec3, plane: PlaneView): void {
  if (plane.axes.slice !== measure.slice) return;
  const end: Vec3 = [...index];
  end[measure.slice] = measure.k;
  measure.points[measure.points.length - 1] = end;
}
