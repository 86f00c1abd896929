// Short messages in a corner; a screen reader hears them too.

import { h } from "./dom";

export class Notes {
  readonly element = h("div", { class: "notes", role: "status", "aria-live": "polite" });

  say(text: string, kind: "info" | "error" = "info"): void {
    for (const old of this.element.querySelectorAll(".note")) if (old.getAttribute("data-text") === text) old.remove();
    const note = h("div", { class: `note ${kind}`, "data-text": text, role: kind === "error" ? "alert" : null },
      h("span", { class: "grow" }, text),
      h("button", { type: "button", class: "plain", "aria-label": "Put away", onclick: () => note.remove() }, "×"),
    );
    this.element.append(note);
    while (this.element.childElementCount > 4) this.element.firstElementChild?.remove();
    if (kind === "info") setTimeout(() => note.remove(), 5000);
  }
}
