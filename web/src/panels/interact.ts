import type { App } from "../app";
import { fill, h } from "../dom";

export function mount(host: HTMLElement, _app: App): () => void {
  fill(host, h("p", { class: "quiet" }, "Interaction"));
  return () => {};
}
