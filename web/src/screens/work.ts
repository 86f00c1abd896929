// The work list as a screen of its own; the panel is the same as in the tab.

import type { App } from "../app";
import { fill, h } from "../dom";
import { mountPanel } from "../tabs";

export function showWork(host: HTMLElement, app: App): () => void {
  app.store.set({ screen: "work", study: null, image: null });
  const panel = h("div", { class: "panel" });
  fill(host, panel);
  return mountPanel("worklist", panel, app);
}
