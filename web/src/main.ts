// Start of the page: who works, which token, which screen.

import { Api } from "./api";
import { errorText, type App, type State } from "./app";
import { Commands } from "./commands";
import { fill, h } from "./dom";
import { registerHelp } from "./help";
import { endWithReader } from "./interact/whose";
import { Notes } from "./notes";
import { askReader, askToken, readToken, shortKey } from "./people";
import { showList } from "./screens/list";
import { showStudy } from "./screens/study";
import { showWork } from "./screens/work";
import { Store } from "./store";
import { applyTheme, readTheme, type Theme } from "./theme";
import icon from "./icon.svg";
import "./styles/tokens.css";
import "./styles/page.css";

function start(): void {
  readToken();
  const theme = readTheme();
  applyTheme(theme);
  const store = new Store<State>({
    info: null, reader: localStorage.getItem("isocenter.reader") ?? "", theme, screen: "list", study: null, image: null,
    prior: null, cursor_lps_mm: null, cursor_zyx: [0, 0, 0], tab: "interact", overlays: [], shared: {},
  });
  const commands = new Commands();
  const notes = new Notes();
  const api = new Api(
    () => sessionStorage.getItem("isocenter.token") ?? "",
    () => store.get().reader,
    () => (api.signedIn ? location.assign(new URL("login", document.baseURI)) : void askToken().then(() => location.reload())),
  );
  const app: App = {
    api, store, commands,
    jumpTo: (image, point_lps_mm, index_zyx) => jump.to(image, point_lps_mm, index_zyx),
    showOverlay: (overlay) => {
      const others = store.get().overlays.filter((one) => one.id !== overlay.id);
      store.set({ overlays: [...others, overlay] });
    },
    hideOverlay: (id) => store.set({ overlays: store.get().overlays.filter((one) => one.id !== id) }),
    notify: (text, kind) => notes.say(text, kind),
    openStudy: (id) => (location.hash = `#/study/${encodeURIComponent(id)}`),
    openList: () => (location.hash = "#/"),
  };
  const main = h("main", { id: "main" });
  fill(document.getElementById("page")!, h("a", { class: "skip", href: "#main", onclick: skip(main) }, "To the content"), topBar(app), main);
  document.body.append(notes.element);
  commands.listen(document);
  registerHelp(app);
  registerPage(app);
  endWithReader(app);

  const jump = { to: (_image: string, _point: [number, number, number] | null, _index?: [number, number, number]): void => {} };
  let end: () => void = () => {};
  const route = (): void => {
    const [, screen, id] = location.hash.split("/");
    end();
    jump.to = () => {};
    if (screen === "study" && id) end = showStudy(main, app, decodeURIComponent(id), jump);
    else if (screen === "work") end = showWork(main, app);
    else end = showList(main, app);
  };
  addEventListener("hashchange", route);
  const known = api.me().then((me) => me && store.set({ reader: me.name }), () => undefined);
  known.then(() => api.info()).then(
    async (info) => {
      store.set({ info });
      if (!store.get().reader) store.set({ reader: await askReader() });
      route();
    },
    (error: unknown) => {
      fill(main, h("p", { class: "card bad", role: "alert" }, errorText(error)));
    },
  );
}

function skip(main: HTMLElement): (event: Event) => void {
  return (event) => {
    event.preventDefault();
    main.tabIndex = -1;
    main.focus();
  };
}

function topBar(app: App): HTMLElement {
  const where = h("h1", { class: "where grow" });
  const clinical = h("span", { class: "not-clinical" });
  const reader = h("button", { type: "button", class: "plain", title: "Who works", onclick: () => (app.api.signedIn ? location.assign(new URL("login", document.baseURI)) : void askReader().then((name) => app.store.set({ reader: name }))) });
  app.store.watch(["info", "reader", "study", "screen"], ({ info, reader: name, study, screen }) => {
    clinical.textContent = info ? "Not for clinical use" : "";
    clinical.title = info?.not_for_clinical_use ?? "";
    reader.textContent = name ? `Reader ${name}` : "Who works?";
    where.textContent = screen === "study" && study
      ? [shortKey(study.patient_key), study.study_date, study.modalities.join(" "), study.description].filter(Boolean).join(" · ")
      : screen === "work" ? "Work list" : "Studies";
    document.title = `${where.textContent} · Isocenter`;
  });
  return h("header", { class: "top" },
    h("a", { class: "brand", href: "#/", "aria-label": "Isocenter: list of studies" }, h("img", { src: icon, alt: "" }), "Isocenter"),
    where, clinical,
    h("a", { href: "#/work" }, "Work list"),
    reader,
    h("button", { type: "button", class: "plain", title: "Light, dark or as the system (Shift+T)", "aria-label": "Change light and dark", onclick: () => app.commands.run("page.theme") }, "◐"),
    h("button", { type: "button", class: "plain", title: "Keys (?)", "aria-label": "Keys and commands", onclick: () => app.commands.run("page.help") }, "?"),
  );
}

function registerPage(app: App): void {
  const order: Theme[] = ["auto", "light", "dark"];
  app.commands.register(
    {
      id: "page.theme", label: "Light, dark or as the system", group: "Page", keys: ["shift+t"],
      run: () => {
        const theme = order[(order.indexOf(app.store.get().theme) + 1) % order.length];
        app.store.set({ theme });
        applyTheme(theme);
        app.notify(theme === "auto" ? "Colours as the system" : `Colours: ${theme}`);
      },
    },
    { id: "page.list", label: "List of studies", group: "Page", keys: ["alt+l"], run: () => app.openList() },
    { id: "page.work", label: "Work list", group: "Page", keys: ["alt+w"], run: () => (location.hash = "#/work") },
  );
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(app.store.get().theme));
}

start();
