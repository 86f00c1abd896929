// The list of studies: search, filters, order, page by page; arrow keys and Enter.

import type { StudyItem, StudyQuery } from "../api";
import { errorText, type App } from "../app";
import { fill, h, refill } from "../dom";
import { shortKey } from "../people";
import "../styles/list.css";

const PAGE = 50;
const MODALITIES = ["CT", "MR", "PT", "CR", "DX", "MG", "US", "NM", "XA", "OT", "SM"];
const STATUSES = ["new", "open", "read", "signed"];

const COLUMNS: { key: string; title: string; order: string | null; text: (item: StudyItem) => string }[] = [
  { key: "study_date", title: "Date", order: "date", text: (item) => item.study_date ?? "not known" },
  { key: "patient_key", title: "Patient", order: "patient", text: (item) => shortKey(item.patient_key) },
  { key: "modalities", title: "Modality", order: null, text: (item) => item.modalities.join(" ") },
  { key: "description", title: "Description", order: "description", text: (item) => item.description || "none" },
  { key: "series", title: "Series", order: null, text: (item) => String(item.series) },
  { key: "instances", title: "Images", order: null, text: (item) => String(item.instances) },
  { key: "accession", title: "Accession", order: null, text: (item) => item.accession ?? "" },
  { key: "prior", title: "Earlier", order: null, text: (item) => (item.prior ? String(item.prior) : "") },
  { key: "assigned_to", title: "Assigned", order: null, text: (item) => item.assigned_to ?? "" },
  { key: "status", title: "Status", order: "status", text: (item) => item.status },
];

// What was searched for stays while the page stays.
const query: StudyQuery = { order: "date", limit: PAGE, offset: 0 };

export function showList(host: HTMLElement, app: App): () => void {
  app.store.set({ screen: "list", study: null, image: null, prior: null, overlays: [] });
  let request = new AbortController();
  let timer = 0;

  const search = h("input", { type: "search", id: "search", value: query.q ?? "", placeholder: "Patient, description, accession" });
  const modality = select("modality", "Modality", MODALITIES, query.modality);
  const status = select("status", "Status", STATUSES, query.status);
  const from = h("input", { type: "date", id: "from", value: query.from ?? "" });
  const to = h("input", { type: "date", id: "to", value: query.to ?? "" });
  const count = h("span", { class: "quiet", role: "status", "aria-live": "polite" });
  const head = h("tr");
  const rows = h("tbody");
  const problem = h("p", { class: "bad", role: "alert" });
  const back = h("button", { type: "button", onclick: () => turn(-PAGE) }, "Earlier page");
  const forth = h("button", { type: "button", onclick: () => turn(PAGE) }, "Next page");

  const turn = (step: number): void => {
    query.offset = Math.max(0, (query.offset ?? 0) + step);
    void load();
  };
  const changed = (delay: number): void => {
    Object.assign(query, { q: search.value.trim(), modality: modality.value, status: status.value, from: from.value, to: to.value, offset: 0 });
    clearTimeout(timer);
    timer = window.setTimeout(() => void load(), delay);
  };
  search.addEventListener("input", () => changed(180));
  for (const field of [modality, status, from, to]) field.addEventListener("change", () => changed(0));

  const drawHead = (): void => refill(head, COLUMNS.map(({ key, title, order }) => {
    // The server's "date" is newest first, its other orders go upwards; "-" turns them round.
    const turned = (query.order!.startsWith("-") ? 1 : 0) ^ (order === "date" ? 1 : 0);
    const now = order && query.order!.replace("-", "") === order ? (turned ? "descending" : "ascending") : null;
    const mark = now === "ascending" ? " ▲" : now === "descending" ? " ▼" : "";
    return h("th", { scope: "col", "data-column": key, "aria-sort": now }, order
      ? h("button", { type: "button", class: "plain", "data-keep": key, onclick: () => { query.order = query.order === order ? `-${order}` : order; query.offset = 0; void load(); } }, title + mark)
      : title);
  }));

  const load = async (): Promise<void> => {
    request.abort();
    const mine = request = new AbortController();
    drawHead();
    try {
      const { total, items, scanning } = await app.api.studies(query, mine.signal);
      if (mine.signal.aborted) return;
      problem.textContent = "";
      const first = query.offset ?? 0;
      count.textContent = total === 0 ? "No study fits." : `${first + 1} to ${first + items.length} of ${total} ${total === 1 ? "study" : "studies"}`;
      if (scanning) {
        count.textContent += " The folder is still being looked through: more may come.";
        clearTimeout(timer);
        timer = window.setTimeout(() => void load(), 1500);
      }
      back.disabled = first === 0;
      forth.disabled = first + items.length >= total;
      const focused = (document.activeElement as HTMLElement | null)?.dataset.study;
      fill(rows, items.map((item, at) => row(item, at)));
      if (focused) (rows.querySelector(`[data-study="${CSS.escape(focused)}"]`) as HTMLElement | null)?.focus();
    } catch (error) {
      if (mine.signal.aborted) return;
      problem.textContent = errorText(error);
    }
  };

  const row = (item: StudyItem, at: number): HTMLTableRowElement => {
    const cells = COLUMNS.map(({ key, text }) => key === "status"
      ? h("td", null, h("span", { class: `status ${item.status}` }, item.status))
      : key === "description"
        ? h("td", { class: "wide" }, h("a", { href: `#/study/${encodeURIComponent(item.id)}`, tabindex: -1 }, text(item)))
        : h("td", { title: key === "patient_key" ? item.patient_key : null, class: ["series", "instances", "prior"].includes(key) ? "number" : "" }, text(item)));
    return h("tr", {
      tabindex: at === 0 ? 0 : -1, "data-study": item.id,
      onclick: () => app.openStudy(item.id),
      onkeydown: (event: KeyboardEvent) => walk(event, item.id),
      onfocus: (event: Event) => {
        for (const other of rows.children) (other as HTMLElement).tabIndex = other === event.currentTarget ? 0 : -1;
      },
    }, cells);
  };

  const walk = (event: KeyboardEvent, id: string): void => {
    const here = event.currentTarget as HTMLElement;
    const target = event.key === "ArrowDown" ? here.nextElementSibling : event.key === "ArrowUp" ? here.previousElementSibling
      : event.key === "Home" ? rows.firstElementChild : event.key === "End" ? rows.lastElementChild : null;
    if (event.key === "Enter") app.openStudy(id);
    else if (target instanceof HTMLElement) target.focus();
    else return;
    event.preventDefault();
  };

  const end = app.commands.register(
    { id: "list.search", label: "Search", group: "List of studies", keys: ["/"], run: () => search.focus() },
    { id: "list.rows", label: "Into the list (then ↑ ↓ and Enter)", group: "List of studies", keys: ["arrowdown"], run: () => (rows.querySelector("tr[tabindex='0']") as HTMLElement | null)?.focus() },
    { id: "list.next", label: "Next page", group: "List of studies", keys: ["pagedown"], enabled: () => !forth.disabled, run: () => turn(PAGE) },
    { id: "list.back", label: "Earlier page", group: "List of studies", keys: ["pageup"], enabled: () => !back.disabled, run: () => turn(-PAGE) },
  );
  search.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    app.commands.run("list.rows");
  });

  fill(host, h("div", { class: "list" },
    h("form", { class: "row filters", role: "search", onsubmit: (event: Event) => event.preventDefault() },
      h("label", { class: "grow row" }, "Search", search), h("label", { class: "row" }, "Modality", modality), h("label", { class: "row" }, "Status", status),
      h("label", { class: "row" }, "From", from), h("label", { class: "row" }, "to", to)),
    problem,
    h("div", { class: "scroll" }, h("table", { class: "studies" }, h("caption", { class: "hidden-text" }, "Studies"), h("thead", null, head), rows)),
    h("div", { class: "row foot" }, count, h("span", { class: "grow" }), back, forth),
  ));
  drawHead();
  void load();
  return () => {
    request.abort();
    clearTimeout(timer);
    end();
  };
}

function select(id: string, label: string, values: string[], chosen: string | undefined): HTMLSelectElement {
  const element = h("select", { id, "aria-label": label }, h("option", { value: "" }, "all"), values.map((value) => h("option", { value }, value)));
  element.value = chosen ?? "";
  return element;
}
