// The right-hand tabs. Each panel is a module of its own, loaded when its tab is first opened.

import { errorText, type App, type Panel, type TabName } from "./app";
import { fill, h } from "./dom";

const MODULES = import.meta.glob<Panel>("./panels/*.ts");

export const TABS: { name: TabName; title: string; key: string }[] = [
  { name: "interact", title: "Interact", key: "alt+1" },
  { name: "findings", title: "Findings", key: "alt+2" },
  { name: "report", title: "Report", key: "alt+3" },
  { name: "ask", title: "Ask", key: "alt+4" },
  { name: "outlook", title: "Outlook", key: "alt+5" },
  { name: "worklist", title: "Work list", key: "alt+6" },
];

/** Mount one panel; a panel that this build has not, or that fails, says so in its place. */
export function mountPanel(name: TabName, host: HTMLElement, app: App): () => void {
  const load = MODULES[`./panels/${name}.ts`];
  if (!load) {
    fill(host, h("p", { class: "quiet" }, "This part is not in this build of the page."));
    return () => {};
  }
  let end: (() => void) | null = null;
  let ended = false;
  load().then(
    (module) => {
      if (!ended) end = module.mount(host, app);
    },
    (error: unknown) => fill(host, h("p", { class: "bad", role: "alert" }, `This part could not be loaded: ${errorText(error)}`)),
  );
  return () => {
    ended = true;
    end?.();
    fill(host);
  };
}

export function mountTabs(host: HTMLElement, app: App, own: Partial<Record<TabName, (host: HTMLElement) => () => void>> = {}): () => void {
  const bar = h("div", { class: "tabs", role: "tablist", "aria-label": "Work on this study" });
  const buttons = new Map<TabName, HTMLButtonElement>();
  const hosts = new Map<TabName, HTMLElement>();
  const ends: (() => void)[] = [];
  for (const { name, title, key } of TABS) {
    const button = h("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, title: `${title} (${key})`,
      onclick: () => app.store.set({ tab: name }),
    }, title);
    const panel = h("div", { class: "panel", role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, tabindex: 0 });
    buttons.set(name, button);
    hosts.set(name, panel);
    bar.append(button);
  }
  bar.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    const now = TABS.findIndex((tab) => tab.name === app.store.get().tab);
    const next = TABS[(now + step + TABS.length) % TABS.length].name;
    app.store.set({ tab: next });
    buttons.get(next)?.focus();
    event.preventDefault();
  });
  fill(host, bar, [...hosts.values()]);

  const mounted = new Set<TabName>();
  ends.push(app.store.watch(["tab"], ({ tab }) => {
    for (const { name } of TABS) {
      const chosen = name === tab;
      const button = buttons.get(name)!;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      hosts.get(name)!.hidden = !chosen;
    }
    if (!mounted.has(tab)) {
      mounted.add(tab);
      const mount = own[tab];
      ends.push(mount ? mount(hosts.get(tab)!) : mountPanel(tab, hosts.get(tab)!, app));
    }
  }));
  ends.push(app.commands.register(...TABS.map(({ name, title, key }) => ({
    id: `tab.${name}`, label: `Tab ${title}`, group: "Page", keys: [key], run: () => app.store.set({ tab: name }),
  }))));
  return () => {
    for (const end of ends) end();
    fill(host);
  };
}
