// `?`: every command that there is now, by group, with its keys.

import type { App } from "./app";
import { keyLabel } from "./commands";
import { h } from "./dom";

export function registerHelp(app: App): void {
  app.commands.register({ id: "page.help", label: "Keys and commands", group: "Page", keys: ["?"], run: () => showHelp(app) });
}

function showHelp(app: App): void {
  if (document.querySelector("dialog.keys")) return;
  const groups = new Map<string, HTMLElement>();
  for (const command of app.commands.list()) {
    const list = groups.get(command.group) ?? h("dl");
    groups.set(command.group, list);
    list.append(h("div", null,
      h("dt", null, ...(command.keys ?? []).flatMap((key, at) => [at ? " " : null, h("kbd", null, keyLabel(key))])),
      h("dd", null, command.label),
    ));
  }
  const dialog = h("dialog", { class: "keys", "aria-labelledby": "help-title" },
    h("form", { method: "dialog" }, h("button", { class: "primary", autofocus: true }, "Close")),
    h("h2", { id: "help-title" }, "Keys"),
    h("div", { class: "help" }, ...[...groups].map(([name, list]) => h("section", null, h("h3", null, name), list))),
    h("p", { class: "quiet" }, "Drag with the right button for the window, with Shift to move the picture; turn the wheel for slices, with Ctrl to zoom. ", h("a", { href: "./assets/third-party-licences.txt", target: "_blank", rel: "noopener" }, "Licences of others")),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
