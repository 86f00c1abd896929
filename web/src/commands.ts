// Everything that the page can do is a command with a name and, nearly always, a key. `?` lists them.

import { h } from "./dom";

export interface Command {
  id: string;
  label: string;
  group: string;
  /** As in "ctrl+z", "shift+arrowup", "a", "?"; several keys may lead to one command. */
  keys?: string[];
  run: (event?: Event) => void;
  /** Absent: always. A key whose command is not enabled is left to the browser. */
  enabled?: () => boolean;
}

export class Commands {
  private all = new Map<string, Command>();

  /** Add commands; the answer takes them away again. A name that is taken already raises; two may share a key where they are never enabled together. */
  register(...commands: Command[]): () => void {
    for (const command of commands) {
      if (this.all.has(command.id)) throw new Error(`command ${command.id} is registered twice`);
      this.all.set(command.id, command);
    }
    return () => {
      for (const command of commands) if (this.all.get(command.id) === command) this.all.delete(command.id);
    };
  }

  run(id: string, event?: Event): boolean {
    const command = this.all.get(id);
    if (!command || (command.enabled && !command.enabled())) return false;
    command.run(event);
    return true;
  }

  get(id: string): Command | undefined {
    return this.all.get(id);
  }

  list(): Command[] {
    return [...this.all.values()];
  }

  /** Listen on the document; text fields keep their keys, apart from Escape and those held with Ctrl. */
  listen(target: Document): void {
    target.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.isComposing) return;
      // What lies under a dialog can neither be seen whole nor clicked: no key confirms, removes or leaves it.
      if (document.querySelector("dialog[open]")) return;
      const key = keyOf(event);
      if (isTyping(event.target) && !keepsInFields(key)) return;
      if (ownsKey(event.target, key)) return;
      for (const command of this.list()) {
        if (!command.keys?.includes(key) || (command.enabled && !command.enabled())) continue;
        event.preventDefault();
        command.run(event);
        return;
      }
    });
  }

  /** A button that does what a command does, and says its key. */
  button(id: string, text?: string, attributes: Record<string, unknown> = {}): HTMLButtonElement {
    const command = this.all.get(id);
    const label = command?.label ?? id;
    const key = command?.keys?.[0];
    return h(
      "button",
      {
        type: "button",
        title: key ? `${label} (${keyLabel(key)})` : label,
        // What is read aloud holds what is seen: who speaks to the page says what stands on the button.
        "aria-label": text && !label.toLowerCase().includes(text.toLowerCase()) ? `${text}: ${label}` : label,
        "aria-keyshortcuts": key ? ariaKey(key) : null,
        "data-command": id,
        onclick: (event: Event) => this.run(id, event),
        ...attributes,
      },
      text ?? label,
    );
  }
}

function keyOf(event: KeyboardEvent): string {
  const key = event.key === " " ? "space" : event.key.toLowerCase();
  const parts: string[] = [];
  if (event.ctrlKey || event.metaKey) parts.push("ctrl");
  if (event.altKey) parts.push("alt");
  // Shift is part of the sign itself in "?" or "+": it counts for letters and named keys alone.
  if (event.shiftKey && (key.length > 1 || /[a-z]/.test(key))) parts.push("shift");
  return [...parts, key].join("+");
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button", "range"].includes(target.type);
}

function keepsInFields(key: string): boolean {
  return key === "escape" || (key.startsWith("ctrl+") && !["a", "c", "v", "x", "z", "y", "shift+z"].includes(key.slice(5)));
}

/** Keys by which an element that has the focus is itself worked. */
function ownsKey(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  const pressed = ["space", "enter"].includes(key);
  if (pressed && target.closest("button, a, summary, input")) return true;
  if (target instanceof HTMLInputElement && target.type === "range") return key.startsWith("arrow") || key === "home" || key === "end";
  return key.startsWith("arrow") && target.closest("[role=tablist], [role=menu], [role=grid], [role=radiogroup]") !== null;
}

const NAMES: Record<string, string> = {
  arrowup: "↑", arrowdown: "↓", arrowleft: "←", arrowright: "→", pageup: "PgUp", pagedown: "PgDn",
  escape: "Esc", space: "Space", enter: "Enter", ctrl: "Ctrl", shift: "Shift", alt: "Alt", delete: "Del",
};

export function keyLabel(key: string): string {
  return parts(key).map((part) => NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part[0].toUpperCase() + part.slice(1))).join("+");
}

function ariaKey(key: string): string {
  return parts(key).map((part) => (part === "ctrl" ? "Control" : part.length === 1 ? part : part[0].toUpperCase() + part.slice(1))).join("+");
}

function parts(key: string): string[] {
  return key === "+" ? ["+"] : key.endsWith("++") ? [...key.slice(0, -2).split("+"), "+"] : key.split("+");
}
