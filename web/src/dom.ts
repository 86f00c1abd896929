// Elements without a framework: h("button", {class: "x", onclick: f}, "text", child).

type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, unknown>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes | null = null,
  ...children: (Child | Child[])[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (attributes) assign(element, attributes);
  append(element, children.flat());
  return element;
}

export function svg(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  append(element, children);
  return element;
}

function assign(element: HTMLElement, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("aria-")) {
      // These have words for both: "false" is not the same as not said.
      element.setAttribute(name, String(value));
      continue;
    }
    if (value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      element.addEventListener(name.slice(2), value as EventListener);
    } else if (name === "style" && typeof value === "object") {
      // Through the object model: a style attribute would be refused by the content security policy.
      for (const [key, part] of Object.entries(value as Record<string, string>)) element.style.setProperty(key, part);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else {
      element.setAttribute(name === "className" ? "class" : name, String(value));
    }
  }
}

function append(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Put `children` in the place of everything that is inside `element`. */
export function fill(element: Element, ...children: (Child | Child[])[]): void {
  element.replaceChildren();
  append(element, children.flat());
}

/**
 * As `fill`, for what is drawn again while somebody works in it: what bears the same `data-keep` before and after has
 * the focus again, and the text that was typed into it.
 */
export function refill(element: Element, ...children: (Child | Child[])[]): void {
  const typed = new Map([...element.querySelectorAll<HTMLInputElement>("input[data-keep]")].map((field) => [field.dataset.keep!, field.value]));
  const focus = document.activeElement;
  const kept = focus instanceof HTMLElement && element.contains(focus) ? focus.dataset.keep : undefined;
  const caret = focus instanceof HTMLInputElement && focus.type === "text" ? focus.selectionStart : null;
  fill(element, ...children);
  for (const again of element.querySelectorAll<HTMLElement>("[data-keep]")) {
    const key = again.dataset.keep!;
    if (again instanceof HTMLInputElement) again.value = typed.get(key) ?? again.value;
    if (key !== kept) continue;
    again.focus({ preventScroll: true });
    if (again instanceof HTMLInputElement && caret !== null) again.setSelectionRange(caret, caret);
  }
}
