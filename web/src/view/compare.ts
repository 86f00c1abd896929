// A prior study beside the present one: a second viewer whose slices follow those of the first.

import type { ImageItem, StudyDetail, Vec3 } from "../api";
import { errorText, type App } from "../app";
import { fill, h } from "../dom";
import { toIndex, toWorld } from "./grid";
import { Tools } from "./tools";
import { Viewer } from "./viewer";
import type { Volumes } from "./volume";

export type LinkKind = "position" | "fraction" | "none";

export class Compare {
  readonly viewer: Viewer;
  readonly element: HTMLElement;
  linked = true;
  private readonly tools: Tools;
  private readonly caption = h("span", { class: "quiet", role: "status", "data-test": "link" });
  private readonly studies = h("select", { "aria-label": "Prior study" });
  private readonly images = h("select", { "aria-label": "Series of the prior study" });
  private readonly link: HTMLButtonElement;
  private readonly now = h("span", { class: "where" });
  private readonly present: HTMLElement[];
  private following = false;
  private offset = 0;
  private study: StudyDetail | null = null;
  private ended = false;
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly app: App,
    private readonly main: Viewer,
    volumes: Volumes,
    private readonly trim: () => void,
  ) {
    this.viewer = new Viewer(volumes);
    this.viewer.layout = "one";
    this.tools = new Tools(this.viewer, () => app.notify("Prompts belong to the present study."), () => {}, () => false);
    this.link = h("button", { type: "button", "aria-pressed": "true", title: "Scroll both together; put on again, the present pair is the match (Shift+C)", onclick: () => this.toggleLink() }, "Linked");
    this.element = h("section", { class: "viewer prior", "aria-label": "Prior study" },
      h("div", { class: "row strip" }, h("strong", null, "Prior"), this.studies, this.images, this.link), this.viewer.element,
      h("div", { class: "strip foot" }, this.caption));
    this.present = [h("div", { class: "row strip" }, h("strong", null, "Present"), this.now), h("div", { class: "strip foot" })];
    main.element.before(this.present[0]);
    main.element.after(this.present[1]);
    this.studies.addEventListener("change", () => void this.openStudy(this.studies.value));
    this.images.addEventListener("change", () => this.show(this.study?.images.find((image) => image.id === this.images.value) ?? null));
    this.ends.push(main.on((what) => (what === "cursor" || what === "slice" || what === "view") && this.follow(this.main, this.viewer, what !== "view")));
    this.ends.push(main.on((what) => what === "image" && this.pick()));
    this.ends.push(main.on((what) => what === "window" && this.copyWindow()));
    this.ends.push(this.viewer.on((what) => (what === "cursor" || what === "view") && this.follow(this.viewer, this.main, what !== "view")));
  }

  /** Take the latest study before this one that has the modality in view. */
  async start(): Promise<void> {
    const { study, image } = this.app.store.get();
    if (!study?.priors.length) {
      this.caption.textContent = "No earlier study of this patient is here.";
      return;
    }
    fill(this.studies, study.priors.map((prior) => h("option", { value: prior.id }, `${prior.study_date ?? "no date"} ${prior.modalities.join(" ")} ${prior.description}`)));
    const same = study.priors.find((prior) => image && prior.modalities.includes(image.modality)) ?? study.priors[0];
    this.studies.value = same.id;
    await this.openStudy(same.id);
  }

  private async openStudy(id: string): Promise<void> {
    // What is named and what is seen are never two studies, also while one is on its way or does not come.
    this.study = null;
    fill(this.images);
    this.show(null);
    this.caption.textContent = "Loading…";
    const left = (): boolean => this.ended || this.studies.value !== id;
    try {
      const study = await this.app.api.study(id);
      if (left()) return;
      this.study = study;
    } catch (error) {
      if (!left()) this.caption.textContent = errorText(error);
      return;
    }
    if (!this.study.images.length) this.caption.textContent = "This study has no images that can be shown.";
    fill(this.images, this.study.images.map((image) => h("option", { value: image.id }, `${image.modality} ${image.description}`)));
    this.pick();
  }

  /** The prior series that is most like the one in view. */
  private pick(): void {
    const now = this.main.image;
    if (!this.study || !now) return;
    const likeness = (image: ImageItem): number =>
      Number(image.modality === now.modality) * 4 + Number(image.orientation === now.orientation) * 2 + Number(image.description === now.description) * 2 + Number(image.stack === now.stack);
    const best = [...this.study.images].sort((a, b) => likeness(b) - likeness(a))[0] ?? null;
    if (best) this.images.value = best.id;
    this.show(best);
  }

  private show(image: ImageItem | null): void {
    const { study } = this.app.store.get();
    this.now.textContent = [study?.study_date, this.main.image?.modality, this.main.image?.description].filter(Boolean).join(" ");
    this.offset = 0;
    delete this.element.dataset.link;
    this.viewer.show(image);
    this.app.store.set({ prior: image });
    this.trim();
    this.copyWindow();
    this.follow(this.main, this.viewer);
  }

  /** One window for both, where their values mean the same. */
  private copyWindow(): void {
    const [a, b] = [this.main.image, this.viewer.image];
    if (a && b && a.quantity === b.quantity && a.unit === b.unit && a.quantity !== "arbitrary") this.viewer.setWindow(this.main.window);
  }

  toggleLink(): void {
    this.linked = !this.linked;
    this.link.setAttribute("aria-pressed", String(this.linked));
    this.link.textContent = this.linked ? "Linked" : "Not linked";
    if (this.linked) {
      this.offset = 0;
      const target = this.target(this.main, this.viewer);
      const plane = this.matching(this.viewer);
      if (target && plane) this.offset = plane.k - target.k;
    }
    this.follow(this.main, this.viewer);
  }

  private matching(viewer: Viewer) {
    return viewer.planes.find((plane) => plane.axes.name === this.main.active?.axes.name) ?? null;
  }

  /** Slice of `to` that belongs to the slice of `from`, and by what it was found. */
  private target(from: Viewer, to: Viewer): { k: number; index: Vec3; kind: LinkKind } | null {
    const name = this.main.active?.axes.name;
    const a = from.planes.find((plane) => plane.axes.name === name);
    const b = to.planes.find((plane) => plane.axes.name === name) ?? to.planes[0];
    if (!a || !b || !from.grid || !to.grid) return null;
    // The offset is counted in slices of the prior study: from there the way leads back by where it would stand without.
    const moved = from === this.viewer ? this.offset : 0;
    const cursor: Vec3 = [...from.cursor];
    cursor[a.axes.slice] -= moved;
    const world = toWorld(from.grid, cursor);
    if (world && to.grid.affine && this.overlap(from, to, a.axes.slice, b.axes.slice) >= 0.3) {
      const index = toIndex(to.grid, world)!;
      return { k: Math.round(index[b.axes.slice]), index, kind: "position" };
    }
    const share = a.slices > 1 ? (a.k - moved) / (a.slices - 1) : 0;
    // Both are counted in the direction of "next": two stacks may be stored in opposite order.
    const turned = a.axes.next === b.axes.next ? share : 1 - share;
    const k = Math.round(turned * (b.slices - 1));
    const index: Vec3 = [...to.cursor];
    index[b.axes.slice] = k;
    return { k, index, kind: "fraction" };
  }

  /** Share of the shorter stack that lies within the longer one, along the stack. */
  private overlap(from: Viewer, to: Viewer, slice: number, otherSlice: number): number {
    const ends = [0, from.grid!.shape[slice] - 1].map((k) => {
      const index = from.grid!.shape.map((n) => (n - 1) / 2) as Vec3;
      index[slice] = k;
      return toIndex(to.grid!, toWorld(from.grid!, index)!)![otherSlice];
    });
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const last = to.grid!.shape[otherSlice] - 1;
    const common = Math.min(high, last) - Math.max(low, 0);
    return Math.max(0, common) / Math.max(1e-9, Math.min(high - low, last));
  }

  /** `move`: to the matching slice; not where only zoom or place have changed, for the way there and back is rounded. */
  private follow(from: Viewer, to: Viewer, move = true): void {
    if (this.following || !to.volume) return;
    const plane = this.matching(this.viewer);
    if (plane && this.viewer.active !== plane) this.viewer.activate(plane);
    if (!this.linked) {
      this.caption.textContent = "Not linked: each scrolls by itself. Linked again, the pair in view is the match.";
      return;
    }
    const target = this.target(from, to);
    if (!target) return;
    const slice = (to.planes.find((one) => one.axes.name === this.main.active?.axes.name) ?? to.planes[0]).axes.slice;
    const index: Vec3 = [...target.index];
    if (to === this.viewer) index[slice] += this.offset;
    this.following = true;
    if (move) to.setCursor(index);
    this.lookAlike(from, to, target.kind);
    this.following = false;
    const moved = this.offset ? `, moved by ${this.offset} slices of the prior` : "";
    this.caption.textContent = target.kind === "position"
      ? `Linked by patient position, as each study recorded it (not registered)${moved}`
      : `Linked by fraction of the stack: no common position is known${moved}`;
    this.element.dataset.link = target.kind;
  }

  /** The same millimetres a pixel on both sides, and, with a common position, the crosshair at the same point. */
  private lookAlike(from: Viewer, to: Viewer, kind: LinkKind): void {
    const name = this.main.active?.axes.name;
    const a = from.planes.find((plane) => plane.axes.name === name);
    const b = to.planes.find((plane) => plane.axes.name === name) ?? to.planes[0];
    if (!a || !b || !a.element.clientWidth || !b.element.clientWidth || !from.grid?.spacing_mm || !to.grid?.spacing_mm) return;
    const [x, y] = a.screenAt(from.cursor);
    if (kind === "position") b.look(a.scale, to.cursor, x, y);
    else b.look(a.scale, to.cursor, ...b.screenAt(to.cursor));
  }

  dispose(): void {
    this.ended = true;
    for (const end of this.ends) end();
    this.tools.dispose();
    this.viewer.dispose();
    for (const strip of this.present) strip.remove();
    this.element.remove();
    this.app.store.set({ prior: null });
  }
}
