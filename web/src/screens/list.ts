import type { App } from "../app";
import { fill, h } from "../dom";

export function showList(host: HTMLElement, app: App): () => void {
  app.store.set({ screen: "list", study: null, image: null });
  fill(host, h("p", null, "Studies"));
  return () => {};
}
