// From what is said to where it can be seen: the planes jump, and the outline or map is laid over them.

import type { App } from "../app";
import { h } from "../dom";
import type { Place } from "./types";

/** The layer of the place that was jumped to last: there is one at a time. */
export const SPOT = "evidence";
const COLOUR = "#ffd27a";

export function canJump(place: Place): boolean {
  return place.image !== null && (place.point_lps_mm !== null || place.index_zyx !== null);
}

export function jump(app: App, place: Place): void {
  if (!canJump(place)) return;
  app.jumpTo(place.image!, place.point_lps_mm, place.index_zyx ?? undefined);
  const layer = { id: SPOT, image: place.image!, name: "What the sentence is about" };
  if (place.mask) {
    const { reading, prediction, segment } = place.mask;
    app.showOverlay({ ...layer, colour: COLOUR, opacity: 0.3, kind: "mask", url: `readings/${encodeURIComponent(reading)}/masks/${prediction}?segment=${segment}` });
  } else if (place.map) {
    app.showOverlay({ ...layer, colour: "#ff9f40", opacity: 0.5, kind: "map", url: `readings/${encodeURIComponent(place.map.reading)}/maps/${encodeURIComponent(place.map.file)}` });
  } else {
    app.hideOverlay(SPOT);
  }
}

/** Where a place is, in words that a screen reader can say. */
export function placeWords(place: Place): string {
  if (place.point_lps_mm) {
    const [x, y, z] = place.point_lps_mm.map((value) => Math.round(value));
    const side = (value: number, high: string, low: string): string => `${Math.abs(value)} mm ${value < 0 ? low : high}`;
    return `${side(x, "left", "right")}, ${side(y, "posterior", "anterior")}, ${side(z, "superior", "inferior")}`;
  }
  if (place.index_zyx) return `slice ${place.index_zyx[0] + 1}, row ${place.index_zyx[1] + 1}, column ${place.index_zyx[2] + 1}`;
  return "no place in the picture";
}

/** A button for each place: what it is, and the jump; a number of the whole image has none, and says so. */
export function chips(app: App, places: Place[]): HTMLElement {
  const list = h("span", { class: "chips" });
  for (const place of places) {
    const known = canJump(place);
    const what = place.kind === "segment" ? "outline" : place.kind === "map" ? "map" : "number";
    const heard = known ? `, ${placeWords(place)}: show it` : `: ${place.label}`;
    list.append(h("button", { type: "button", class: "chip", disabled: !known, title: place.label, onclick: () => jump(app, place) },
      `${place.evidence} ${what}`, h("span", { class: "hidden-text" }, heard)));
  }
  return list;
}
