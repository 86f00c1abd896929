// One study: series and priors on the left, planes in the middle, work on the right.

import type { ImageItem, StudyDetail, Vec3 } from "../api";
import { errorText, type App } from "../app";
import { fill, h } from "../dom";
import { mountInteract } from "../interact/panel";
import { interactionOf, type Interaction } from "../interact/session";
import { mountTabs } from "../tabs";
import { Compare } from "../view/compare";
import { Layers } from "../view/layers";
import { Three } from "../view/three";
import { Tools } from "../view/tools";
import { Viewer, type What } from "../view/viewer";
import { Volumes } from "../view/volume";
import { registerStudy } from "./study_commands";
import { mountSeries } from "./study_series";
import { mountToolbar } from "./study_toolbar";
import "../styles/study.css";

export interface Jump { to(image: string, point_lps_mm: Vec3 | null, index_zyx?: Vec3): void }

/** All that stands on the screen of one study; the commands and the tool bar work on it. */
export class StudyScreen {
  readonly volumes: Volumes;
  readonly viewer: Viewer;
  readonly tools: Tools;
  readonly interaction: Interaction;
  readonly three: Three;
  readonly layers: Layers;
  readonly views = h("div", { class: "views" });
  readonly root: HTMLElement;
  compare: Compare | null = null;
  cine = 0;
  refresh: () => void = () => {};
  private study: StudyDetail | null = null;
  private readonly ends: (() => void)[] = [];
  private ended = false;

  constructor(
    readonly app: App,
    host: HTMLElement,
    id: string,
  ) {
    app.store.set({ screen: "study", study: null, image: null, prior: null, overlays: [], cursor_lps_mm: null });
    this.volumes = new Volumes(app.api);
    this.viewer = new Viewer(this.volumes);
    this.interaction = interactionOf(app.api, app.notify);
    this.interaction.draw = (levels, after) => this.layers.setInteraction(levels, after);
    this.tools = new Tools(this.viewer, (gesture) => this.interaction.prompt(gesture), () => this.refresh(), () => this.mayPrompt());
    this.three = new Three(this.viewer.fourth, app.api, this.viewer, () => this.layers.list);
    let series: ReturnType<typeof mountSeries> | null = null;
    this.layers = new Layers(app, this.viewer, () => {
      this.three.refresh();
      series?.showLayers();
    });
    this.ends.push(registerStudy(this));

    const left = h("nav", { class: "left", "aria-label": "Series, earlier studies and layers" });
    const right = h("aside", { class: "right", "aria-label": "Work on this study" });
    const bar = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Tools" });
    const main = h("section", { class: "viewer", "aria-label": "Planes" }, this.viewer.element);
    fill(this.views, main);
    this.root = h("div", { class: "study" }, left, h("div", { class: "centre" }, bar, this.views), right);
    fill(host, this.root);

    const toolbar = mountToolbar(bar, this);
    let panel: { end: () => void; refresh: () => void } | null = null;
    this.refresh = () => {
      toolbar();
      panel?.refresh();
      series?.refresh();
    };
    this.ends.push(mountTabs(right, app, {
      interact: (place) => {
        panel = mountInteract(place, app, this.viewer, this.tools, this.interaction);
        return () => panel?.end();
      },
    }));
    series = mountSeries(left, this);
    this.ends.push(series.end);
    this.ends.push(this.viewer.on((what) => this.changed(what)));
    this.ends.push(app.store.subscribe((state, before) => {
      if (state.image !== before.image) this.showImage(state.image);
    }));
    this.ends.push(this.interaction.store.subscribe((s, before) => {
      if (s.phase !== before.phase || s.takenBy !== before.takenBy) this.refresh();
      if (s.levels !== before.levels && !s.levels) this.layers.setInteraction(null, () => {});
      if (s.levels !== before.levels || s.busy !== before.busy || s.prompts !== before.prompts) {
        this.viewer.marks = this.interaction.marks;
        this.viewer.invalidate();
      }
    }));
    this.tools.choose("crosshair");
    this.interaction.resume();
    void this.load(id);
  }

  private async load(id: string): Promise<void> {
    try {
      const study = await this.app.api.study(id);
      if (this.ended) return;
      this.study = study;
      this.app.store.set({ study, image: study.images[0] ?? null });
      if (!study.images.length) this.app.notify("This study has no images that can be shown.");
    } catch (error) {
      this.app.notify(errorText(error), "error");
    }
  }

  private showImage(image: ImageItem | null): void {
    this.stopCine();
    this.viewer.show(image);
    this.interaction.setImage(image, this.viewer.grid);
    this.three.reset();
    this.layers.imageChanged();
    this.trim();
    this.refresh();
  }

  /** Let go of voxels that are not in view; called whenever another image comes into it. */
  trim(): void {
    this.volumes.trim(new Set([this.viewer.image?.id ?? "", this.compare?.viewer.image?.id ?? "", this.viewer.fusion?.volume.image.id ?? ""]));
  }

  private changed(what: What): void {
    if (what === "leave") return;
    if (what === "cursor" || what === "image") {
      this.app.store.set({ cursor_lps_mm: this.viewer.cursorWorld, cursor_zyx: this.viewer.cursor });
    }
    if (what === "window") this.three.refresh();
    if (what === "cursor") this.three.follow();
    // The tool bar and panels say nothing of the crosshair: it may move many times a second.
    else this.refresh();
  }

  private mayPrompt(): boolean {
    const { phase, takenBy } = this.interaction.store.get();
    if (this.interaction.ready) return true;
    this.app.store.set({ tab: "interact" });
    this.app.notify(takenBy ? `${takenBy} works on this image: you can look, not change.` : phase === "off" ? "Name a structure on the tab Interact and begin first." : "Not now: the server is not ready for a prompt.");
    return false;
  }

  /** Show an image with the crosshair at a place. */
  jump(imageId: string, point: Vec3 | null, index?: Vec3): void {
    const image = this.study?.images.find((one) => one.id === imageId);
    if (!image) return this.app.notify("That image is not in this study.", "error");
    if (this.viewer.image?.id !== imageId) this.app.store.set({ image });
    if (point && this.viewer.setCursorWorld(point)) return;
    if (index) this.viewer.setCursor(index);
  }

  toggleCompare(): void {
    if (this.compare) {
      this.compare.dispose();
      this.compare = null;
      this.viewer.setLayout("grid");
    } else {
      this.viewer.setLayout("one");
      this.compare = new Compare(this.app, this.viewer, this.volumes, () => this.trim());
      this.views.append(this.compare.element);
      void this.compare.start();
    }
    this.refresh();
  }

  // ---- cine ----------------------------------------------------------------------------------------------------------

  toggleCine(): void {
    if (this.cine) return this.stopCine();
    if ((this.viewer.active?.slices ?? 1) < 2) return;
    this.cine = window.setInterval(() => {
      const plane = this.viewer.active;
      if (!plane) return;
      const next = (plane.k + plane.axes.next + plane.slices) % plane.slices;
      // Frames that are not here yet are waited for, not skipped.
      if (plane.axes.slice !== 0 || this.viewer.volume?.loaded[next]) this.viewer.showSlice(plane, next);
    }, 1000 / 15);
    this.refresh();
  }

  stopCine(): void {
    clearInterval(this.cine);
    this.cine = 0;
    this.refresh();
  }

  dispose(): void {
    this.ended = true;
    clearInterval(this.cine);
    this.compare?.dispose();
    this.interaction.draw = () => {};
    this.interaction.setImage(null, null);
    this.three.close();
    for (const end of this.ends.reverse()) end();
    this.layers.dispose();
    this.tools.dispose();
    this.viewer.dispose();
    this.volumes.dispose();
    this.app.store.set({ overlays: [], image: null, study: null });
  }
}

export function showStudy(host: HTMLElement, app: App, id: string, jump: Jump): () => void {
  const screen = new StudyScreen(app, host, id);
  jump.to = (image, point, index) => screen.jump(image, point, index);
  return () => screen.dispose();
}
