// Who works here (initials, free of checks) and the token by which the server knows the page.

import { h } from "./dom";

/** Take the token out of "#token=..." and out of the address bar, so that it is in no history and no screenshot. */
export function readToken(): void {
  const match = /^#token=([^&]+)/.exec(location.hash);
  if (!match) return;
  sessionStorage.setItem("isocenter.token", decodeURIComponent(match[1]));
  history.replaceState(null, "", `${location.pathname}#/`);
}

/** A pseudonym as it is shown: its beginning tells patients apart, the whole of it stands in the title. */
export function shortKey(key: string): string {
  return key.length > 14 ? `${key.slice(0, 12)}…` : key;
}

export async function askReader(): Promise<string> {
  const name = await ask("Who works here?", "Your initials. They are written beside every mask and report that you confirm.", "Initials", localStorage.getItem("isocenter.reader") ?? "", { maxlength: 16, pattern: "[A-Za-z0-9._\\-]{1,16}" });
  localStorage.setItem("isocenter.reader", name);
  return name;
}

let asking: Promise<void> | null = null;

export function askToken(): Promise<void> {
  asking ??= ask("Token", "The server did not know this page. Its token was printed when isocenter serve started.", "Token", "", {})
    .then((token) => sessionStorage.setItem("isocenter.token", token.trim()));
  return asking;
}

/** Ask before something is lost; Escape is a no. */
export function sure(title: string, text: string, yes: string, no: string): Promise<boolean> {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "sure-title" },
      h("h2", { id: "sure-title" }, title), h("p", null, text),
      h("form", { method: "dialog", class: "row" }, h("button", { class: "primary", value: "" }, no), h("button", { value: "yes" }, yes)),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function ask(title: string, text: string, label: string, value: string, attributes: Record<string, unknown>): Promise<string> {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", name: "value", required: true, value, autocomplete: "off", ...attributes });
    const dialog = h("dialog", { "aria-labelledby": "ask-title" },
      h("h2", { id: "ask-title" }, title), h("p", null, text),
      h("form", { method: "dialog", class: "row" }, h("label", { class: "row" }, label, input), h("button", { class: "primary", value: "ok" }, "Go on")),
    );
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(input.value);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.select();
  });
}
