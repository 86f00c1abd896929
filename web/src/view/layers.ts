// The coloured layers over the planes: what the server segments, confirmed masks, and what the panels ask to be shown.

import type { App, OverlaySpec } from "../app";
import { errorText } from "../app";
import type { Box, Vec3 } from "../api";
import { unpack } from "../interact/wire";
import { boxVoxels, LevelBox, unpackRuns, type Layer } from "./levels";
import type { Viewer } from "./viewer";

export const INTERACTION = "interaction";

export class Layers {
  private readonly sources = new Map<string, Promise<LevelBox>>();
  private readonly ends: (() => void)[] = [];
  private interaction: Layer | null = null;
  allHidden = false;
  /** Counts what was begun: a layer that comes late does not come back after it was taken away. */
  private turn = 0;

  constructor(
    private readonly app: App,
    private readonly viewer: Viewer,
    private readonly changed: () => void,
  ) {
    this.ends.push(app.store.subscribe((state, before) => {
      if (state.overlays !== before.overlays) void this.build();
    }));
  }

  dispose(): void {
    this.turn++;
    for (const end of this.ends) end();
  }

  get list(): Layer[] {
    return this.viewer.layers.filter((layer) => layer.id !== "alternative");
  }

  /** Whether what is marked now is not seen. */
  get hidesInteraction(): boolean {
    return this.interaction !== null && (this.allHidden || this.interaction.hidden);
  }

  /** What the socket has just sent; drawn in the next frame. */
  setInteraction(levels: LevelBox | null, after: () => void): void {
    if (levels) {
      const before = this.interaction;
      this.interaction = {
        id: INTERACTION, name: "Marked now", kind: "mask", colour: before?.colour ?? "#35d07f", opacity: before?.opacity ?? 0.35, hidden: before?.hidden ?? false, source: levels,
      };
    } else {
      this.interaction = null;
    }
    this.put(this.viewer.layers.filter((layer) => layer.id !== INTERACTION && layer.id !== "alternative"));
    // The planes draw in the coming frame; the one after that knows that it stands.
    requestAnimationFrame(() => requestAnimationFrame(after));
    this.changed();
  }

  private put(others: Layer[]): void {
    this.viewer.layers = this.interaction ? [...others, this.interaction] : others;
    if (this.allHidden) this.viewer.layers = this.viewer.layers.map((layer) => ({ ...layer, hidden: true }));
    this.viewer.invalidate();
  }

  imageChanged(): void {
    this.interaction = null;
    this.viewer.layers = [];
    void this.build();
  }

  private async build(): Promise<void> {
    const turn = ++this.turn;
    const { image } = this.viewer;
    const specs = image ? this.app.store.get().overlays.filter((one) => one.image === image.id) : [];
    const layers: Layer[] = [];
    for (const spec of specs) {
      try {
        // The grid is that of the image that was begun with: another one may be in view when the mask comes.
        const source = await this.source(spec, image!.shape_zyx);
        if (turn !== this.turn) return;
        layers.push({ id: spec.id, name: spec.name ?? spec.id, kind: spec.kind, colour: spec.colour, opacity: spec.opacity, hidden: spec.hidden ?? false, source });
      } catch (error) {
        this.sources.delete(keyOf(spec));
        if (turn !== this.turn) return;
        this.app.notify(`${spec.name ?? "A layer"} could not be shown: ${errorText(error)}`, "error");
      }
    }
    this.put(layers);
    this.changed();
  }

  private source(spec: OverlaySpec, shape: Vec3): Promise<LevelBox> {
    if (spec.levels) return Promise.resolve(new LevelBox(shape, spec.levels.box_zyx, spec.levels.levels));
    const key = keyOf(spec);
    const known = this.sources.get(key);
    if (known) return known;
    const fresh = this.app.api.bytes(spec.url!).then((buffer) => {
      const { header, payload } = unpack(buffer);
      const box = (header.box_zyx as Box | undefined) ?? [0, shape[0], 0, shape[1], 0, shape[2]];
      const levels = header.encoding === "u8" ? payload.slice() : unpackRuns(payload, boxVoxels(box));
      return new LevelBox(shape, box, levels);
    });
    this.sources.set(key, fresh);
    return fresh;
  }

  /** Change how one layer looks. */
  restyle(id: string, style: Partial<Pick<Layer, "colour" | "opacity" | "hidden">>): void {
    if (this.allHidden && style.hidden === false) return this.showOnly(id);
    if (id === INTERACTION && this.interaction) {
      this.interaction = { ...this.interaction, ...style };
      this.put(this.viewer.layers.filter((layer) => layer.id !== INTERACTION));
      this.changed();
      return;
    }
    const { store } = this.app;
    store.set({ overlays: store.get().overlays.map((one) => (one.id === id ? { ...one, ...style } : one)) });
  }

  /** Whoever asks for one layer where all are hidden sees that one. */
  private showOnly(id: string): void {
    this.allHidden = false;
    if (this.interaction) this.interaction = { ...this.interaction, hidden: id !== INTERACTION };
    const { store } = this.app;
    store.set({ overlays: store.get().overlays.map((one) => (one.image === this.viewer.image?.id ? { ...one, hidden: one.id !== id } : one)) });
    void this.build();
  }

  toggleAll(): void {
    this.allHidden = !this.allHidden;
    void this.build();
  }
}

function keyOf(spec: OverlaySpec): string {
  return `${spec.image} ${spec.url}`;
}
