// What every part of the page is given. Panels (src/panels/NAME.ts) export
// `mount(host: HTMLElement, app: App): () => void` and need nothing else.

import type { Api, Box, ImageItem, Info, StudyDetail, Vec3 } from "./api";
import type { Commands } from "./commands";
import type { Store } from "./store";
import type { Theme } from "./theme";

export type TabName = "interact" | "findings" | "report" | "ask" | "outlook" | "worklist";
export type Screen = "list" | "study" | "work";

/** Levels of a mask inside a box of the image's grid, C order (z, y, x): 0 out, 1 maybe, 2 probably, 3 in. */
export interface Levels { box_zyx: Box; levels: Uint8Array }

/**
 * A coloured layer over one image's planes.
 *
 * kind "mask": levels 0 to 3 (2 and 3 are filled and outlined, 1 and 2 drawn as the band of doubt).
 * kind "map": 0 to 255, drawn from transparent to full colour.
 * `url` answers a message of the interaction socket's form (ISO1 | n | JSON | payload) whose JSON has `box_zyx` and
 * `encoding` "rle-levels" (pairs level, run) or "u8" (the box's bytes as they are); no `box_zyx`: the whole image.
 */
export interface OverlaySpec {
  id: string;
  image: string;
  name?: string;
  url?: string;
  levels?: Levels;
  colour: string;
  opacity: number;
  kind: "mask" | "map";
  hidden?: boolean;
}

export interface State {
  info: Info | null;
  reader: string;
  theme: Theme;
  screen: Screen;
  study: StudyDetail | null;
  /** The image in the planes. */
  image: ImageItem | null;
  /** The image of another study beside it. */
  prior: ImageItem | null;
  /** Where the crosshair is; null where the image has no place in the patient (then `cursor_zyx` says it). */
  cursor_lps_mm: Vec3 | null;
  cursor_zyx: Vec3;
  tab: TabName;
  overlays: OverlaySpec[];
  /** Texts that the panels keep for each other (the latest reading's id, the draft's id): free keys. */
  shared: Record<string, unknown>;
}

export interface App {
  api: Api;
  store: Store<State>;
  commands: Commands;
  /** Show `image` with the crosshair at this place; `index_zyx` serves images without a place in the patient. */
  jumpTo(image: string, point_lps_mm: Vec3 | null, index_zyx?: Vec3): void;
  showOverlay(overlay: OverlaySpec): void;
  hideOverlay(id: string): void;
  /** Say something in a corner and to screen readers; errors stay until they are put away. */
  notify(text: string, kind?: "info" | "error"): void;
  openStudy(id: string): void;
  openList(): void;
}

export interface Panel { mount(host: HTMLElement, app: App): () => void }

export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
