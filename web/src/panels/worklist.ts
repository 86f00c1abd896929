// The work list: what is next for me, done or skipped with a reason, who has what, how far readers agree, export.

import { ApiError } from "../api";
import { errorText, type App } from "../app";
import { fill, h, refill } from "../dom";
import { turnTo } from "../interact/whose";

type TurnState = "open" | "doing" | "done" | "skipped" | "again";

interface Turn { reader: string; state: TurnState; reason: string; answer: string; updated: string }
interface Item {
  id: string; study: string; image: string; label: string; kind: "mask" | "class"; classes: string[];
  patient_key: string; rank: number; wanted: number; version: number; turns: Turn[];
}
interface Label { name: string; kind: "mask" | "class"; classes: string[]; graded: boolean }
interface Plan {
  labels: Label[]; readers: string[]; modality: string; q: string; shared: number; shared_readers: number;
  order: "given" | "random" | "active"; seed: number; version: number;
}
interface Page {
  total: number; items: Item[]; counts: Record<string, number>; by_reader: Record<string, Record<string, number>>;
  plan: Plan; filling: { what: string; done: number; problem: string; left_out: number };
}
interface Figure { value: number; low: number | null; high: number | null }
interface Pair {
  readers: string[]; images: number; patients: number; dice?: Figure; nsd?: Figure | null; kappa?: Figure | null;
  agreed?: number; presence?: { kappa: Figure | null; agreed: number };
}
interface Differing { item: string; readers: string[]; dice?: number; nsd?: number | null; answers?: string[] }
interface Agreement { kind: "mask" | "class"; pairs: Pair[]; disagreements: Differing[]; notes: string[]; tolerance_mm?: number }
interface Export { id: string; form: string; cases: number; left_out: [string, string][]; parts: Record<string, number>; notes: string[]; bytes: number }

const FORMS: [string, string][] = [
  ["nnunet", "nnU-Net"], ["decathlon", "Decathlon"], ["folders", "images/ and labels/"], ["coco", "COCO (pictures)"],
  ["bids", "BIDS"], ["seg", "DICOM SEG"], ["shards", "Shards"],
];
const STATES: Record<string, string> = { open: "open", doing: "begun", done: "done", skipped: "skipped", again: "look again", unassigned: "without a reader" };
const AT_ONCE = 25;

export function mount(host: HTMLElement, app: App): () => void {
  const list = new WorkPanel(host, app);
  void list.refresh();
  return () => list.end();
}

class WorkPanel {
  private readonly ends: (() => void)[] = [];
  private readonly summary = h("p", { role: "status" });
  private readonly mine = h("div", { class: "stack" });
  private readonly table = h("div");
  private readonly planPlace = h("div", { class: "stack" });
  private readonly agreementPlace = h("div", { class: "stack" });
  private readonly exportPlace = h("div", { class: "stack" });
  private readonly show = h("select", { "aria-label": "Which items", onchange: () => { this.offset = 0; void this.refresh(); } },
    h("option", { value: "mine" }, "Mine"), h("option", { value: "all" }, "All"), h("option", { value: "unassigned" }, "Without a reader"),
    h("option", { value: "skipped" }, "Skipped"), h("option", { value: "again" }, "Look again"));
  private offset = 0;
  private page: Page | null = null;
  private timer = 0;
  private ended = false;
  /** Counts what was asked of the server, so that a late answer never takes the place of a newer one. */
  private asked = 0;
  private readonly drawn = new Map<string, string>();

  constructor(host: HTMLElement, private readonly app: App) {
    fill(host, h("div", { class: "stack" },
      this.summary, this.mine,
      h("section", { "aria-label": "Items" }, h("div", { class: "row" }, h("h2", { class: "grow" }, "Items"), this.show), this.table),
      folded("Plan", this.planPlace), folded("Agreement of readers", this.agreementPlace), folded("Export", this.exportPlace)));
    this.ends.push(app.commands.register({ id: "work.next", label: "Next item of the work list", group: "Work list", keys: ["alt+n"], run: () => void this.next(""), enabled: () => this.inView }));
    this.ends.push(app.store.subscribe((state, before) => {
      if (state.reader !== before.reader) void this.refresh();
      if (state.shared.work_item !== before.shared.work_item || state.image !== before.image) this.drawMine();
    }));
  }

  end(): void {
    this.ended = true;
    clearTimeout(this.timer);
    for (const end of this.ends) end();
  }

  /** Its keys are its own: on another tab they would lead away from what is open there. */
  private get inView(): boolean {
    const { screen, tab } = this.app.store.get();
    return screen === "work" || tab === "worklist";
  }

  private get item(): Item | null {
    return (this.app.store.get().shared.work_item as Item | undefined) ?? null;
  }

  /** Whether another image is in view than that of the item at hand: nothing is answered of what is not looked at. */
  private get elsewhere(): boolean {
    const { image } = this.app.store.get();
    return image !== null && this.item !== null && image.id !== this.item.image;
  }

  private keep(item: Item | null): void {
    this.app.store.set({ shared: { ...this.app.store.get().shared, work_item: item } });
  }

  /** Do something; a list that somebody changed meanwhile is looked at again, and that is said. */
  private async act(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // Also where its panel was left: what was said of an item may not have been taken.
      this.app.notify(errorText(error), "error");
      if (this.ended || !(error instanceof ApiError) || error.status !== 409) return;
      const now = this.item;
      if (now) this.keep(await this.app.api.json<Item>(`work/items/${now.id}`).catch(() => null));
    }
    if (!this.ended) await this.refresh();
  }

  async refresh(): Promise<void> {
    clearTimeout(this.timer);
    const asked = ++this.asked;
    const reader = this.app.store.get().reader;
    const query = new URLSearchParams({ offset: String(this.offset), limit: String(AT_ONCE) });
    if (this.show.value === "mine") query.set("reader", reader);
    else if (this.show.value !== "all") query.set("state", this.show.value);
    try {
      const page = await this.app.api.json<Page>(`work?${query}`);
      if (this.ended || asked !== this.asked) return;
      const changed = this.page?.plan.version !== page.plan.version;
      this.page = page;
      this.draw(changed);
      if (page.filling.what) this.timer = window.setTimeout(() => void this.refresh(), 1500);
    } catch (error) {
      if (this.ended || asked !== this.asked) return;
      this.drawn.delete("summary");
      fill(this.summary, h("span", { class: "bad" }, errorText(error)));
    }
  }

  /** Whether a part shows this already: drawn anew it would take the focus, and what is typed, from whoever works in it. */
  private shows(part: string, what: unknown): boolean {
    const now = JSON.stringify(what);
    if (this.drawn.get(part) === now) return true;
    this.drawn.set(part, now);
    return false;
  }

  private draw(planChanged: boolean): void {
    const page = this.page;
    if (!page) return;
    const words = Object.entries(page.counts).filter(([, count]) => count).map(([state, count]) => `${count} ${STATES[state] ?? state}`);
    const busy = page.filling.what ? ` ${page.filling.what}: ${Math.round(page.filling.done * 100)} %.` : "";
    const lost = page.filling.left_out ? ` ${page.filling.left_out} could not be read.` : "";
    const told = page.plan.version ? `${words.join(", ") || "No items"}.${busy}${lost}` : "There is no plan yet: say below what shall be labelled.";
    if (!this.shows("summary", [told, page.filling.problem])) fill(this.summary, told, page.filling.problem ? h("span", { class: "bad" }, ` ${page.filling.problem}`) : null);
    this.drawMine();
    this.drawTable(page);
    if (planChanged) {
      this.drawPlan(page.plan);
      this.drawAgreement(page.plan);
      this.drawExport(page.plan);
    }
  }

  // --- the item at hand ------------------------------------------------------------------------------------------

  private drawMine(): void {
    const labels = this.page?.plan.labels ?? [];
    if (this.shows("mine", [labels, this.item, this.app.store.get().reader, this.elsewhere])) return;
    const next = labels.length > 1
      ? labels.map((one) => h("button", { type: "button", "data-keep": `next ${one.name}`, onclick: () => void this.next(one.name) }, `Next ${one.name}`))
      : [];
    const any = h("button", { type: "button", class: "primary", id: "work-next", "data-keep": "next", title: "Next item (alt+n)", "aria-keyshortcuts": "Alt+N", onclick: () => void this.next("") }, "Next for me");
    refill(this.mine, h("div", { class: "row" }, any, next), this.item ? this.card(this.item) : null);
  }

  private card(item: Item): HTMLElement {
    const reader = this.app.store.get().reader;
    const reason = h("input", { type: "text", maxlength: 200, "data-keep": `skip ${item.id}`, "aria-label": "Reason for skipping", placeholder: "why, e.g. motion" });
    const skip = h("form", {
      class: "row", onsubmit: (event: Event) => {
        event.preventDefault();
        if (!reason.value.trim()) return reason.focus();
        void this.say(item, "skipped", { reason: reason.value });
      },
    }, reason, h("button", { type: "submit" }, "Skip"));
    const answers = item.kind === "class"
      ? h("div", { class: "row", role: "group", "aria-label": item.label }, item.classes.map((one) => h("button", { type: "button", disabled: this.elsewhere, onclick: () => void this.say(item, "done", { answer: one }) }, one)))
      : h("div", { class: "row" },
        h("span", { class: "quiet" }, "Mark it on the tab Interact and confirm it, then:"),
        h("button", { type: "button", onclick: () => void this.say(item, "done", {}) }, "Done"));
    return h("section", { class: "card stack", "aria-label": "Item at hand" },
      h("h2", null, item.label), h("div", { class: "quiet" }, `patient ${item.patient_key}, ${item.wanted > 1 ? `${item.wanted} readers` : "one reader"}, place ${item.rank + 1}`),
      this.elsewhere ? h("p", { class: "warn" }, "Another image is in view than that of this item: show its image first.") : null,
      answers, skip,
      h("div", { class: "row" },
        h("button", { type: "button", onclick: () => void this.open(item) }, "Show image"),
        h("button", { type: "button", onclick: () => void this.say(item, "open", {}) }, "Give back"),
        h("span", { class: "quiet" }, `as ${reader}`)));
  }

  private next(label: string): Promise<void> {
    return this.act(async () => {
      const { item } = await this.app.api.json<{ item: Item | null }>("work/next", { method: "POST", body: { label } });
      this.keep(item);
      if (item) await this.open(item);
      else this.app.notify("Nothing is left for you in the work list.");
    });
  }

  private say(item: Item, state: TurnState, more: { reason?: string; answer?: string }): Promise<void> {
    return this.act(async () => {
      await this.app.api.json<Item>(`work/items/${item.id}`, { method: "PUT", body: { version: item.version, reader: this.app.store.get().reader, state, ...more } });
      this.keep(null);
      this.app.notify(state === "done" ? `${item.label}: done.` : state === "skipped" ? `${item.label}: skipped.` : `${item.label}: given back.`);
    });
  }

  /** Show an item's image; the name of its structure is filled in on the tab Interact. */
  private async open(item: Item): Promise<void> {
    if (item.kind === "mask" && !(await turnTo(this.app, item.label))) return;
    const { study } = this.app.store.get();
    const place = (): void => this.app.jumpTo(item.image, null);
    if (study?.id === item.study) return place();
    // The panel of this screen ends when the study opens, so this outlives it, and ends itself.
    const stop = this.app.store.subscribe((state) => {
      if (state.study?.id !== item.study) return;
      stop();
      setTimeout(place, 0);
    });
    setTimeout(stop, 60_000);
    this.app.openStudy(item.study);
  }

  // --- the list ----------------------------------------------------------------------------------------------------

  private drawTable(page: Page): void {
    if (this.shows("table", [page.items, page.total, this.offset])) return;
    if (!page.items.length) return fill(this.table, h("p", { class: "quiet" }, "Nothing here."));
    const rows = page.items.map((item) => h("tr", null,
      h("td", null, item.label), h("td", { class: "mono" }, item.patient_key.slice(0, 10)),
      h("td", null, item.turns.length ? item.turns.map((turn) => h("div", { title: turn.reason || null }, `${turn.reader}: ${STATES[turn.state]}${turn.reason ? ` (${turn.reason})` : ""}`)) : h("span", { class: "quiet" }, "nobody")),
      h("td", null, h("button", { type: "button", class: "plain", "data-keep": `show ${item.id}`, "aria-label": `Show ${item.label}, patient ${item.patient_key}`, onclick: () => void this.open(item) }, "Show"),
        item.turns.filter((turn) => turn.state === "done" || turn.state === "skipped").map((turn) => this.again(item, turn)))));
    const last = this.offset + page.items.length;
    refill(this.table, h("table", null,
      h("thead", null, h("tr", null, ["Label", "Patient", "Readers", "Do"].map((title) => h("th", { scope: "col", style: { "text-align": "left" } }, title)))), h("tbody", null, rows)),
    h("div", { class: "row" },
      h("button", { type: "button", "data-keep": "before", disabled: !this.offset, onclick: () => this.turn(-AT_ONCE) }, "Before"),
      h("span", { class: "quiet" }, `${this.offset + 1} to ${last} of ${page.total}`),
      h("button", { type: "button", "data-keep": "after", disabled: last >= page.total, onclick: () => this.turn(AT_ONCE) }, "After")));
  }

  private turn(by: number): void {
    this.offset = Math.max(0, this.offset + by);
    void this.refresh();
  }

  private again(item: Item, turn: Turn): HTMLElement {
    const reason = h("input", { type: "text", maxlength: 200, size: 10, "data-keep": `again ${item.id} ${turn.reader}`, "aria-label": `Why ${turn.reader} shall look again`, placeholder: "why" });
    return h("form", {
      class: "row", onsubmit: (event: Event) => {
        event.preventDefault();
        if (!reason.value.trim()) return reason.focus();
        void this.act(async () => {
          await this.app.api.json<Item>(`work/items/${item.id}`, { method: "PUT", body: { version: item.version, reader: turn.reader, state: "again", reason: reason.value } });
        });
      },
    }, reason, h("button", { type: "submit", class: "plain", title: `${turn.reader} shall look again` }, "Again"));
  }

  // --- plan --------------------------------------------------------------------------------------------------------

  private drawPlan(plan: Plan): void {
    const lines = plan.labels.map((one) => (one.kind === "mask" ? one.name : `${one.name}: ${one.classes.join(one.graded ? " < " : ", ")}`));
    const labels = h("textarea", { rows: 4, id: "work-labels", placeholder: "left kidney\nquality: good, poor\ngrade: none < mild < severe" }, lines.join("\n"));
    const readers = h("input", { type: "text", id: "work-readers", value: plan.readers.join(", "), placeholder: "empty: whoever asks" });
    const modality = h("input", { type: "text", id: "work-modality", size: 6, value: plan.modality, placeholder: "any" });
    const shared = h("input", { type: "number", id: "work-shared", min: 0, max: 100, step: 1, value: Math.round(plan.shared * 100) });
    const many = h("input", { type: "number", id: "work-many", min: 1, max: 10, value: plan.shared_readers });
    const order = h("select", { id: "work-order" }, ([["given", "as given"], ["random", "random"], ["active", "what teaches most"]] as const).map(([value, text]) => h("option", { value, selected: plan.order === value }, text)));
    const save = (): Promise<void> => this.act(async () => {
      const body = {
        version: plan.version, labels: parseLabels(labels.value), readers: readers.value.split(",").map((one) => one.trim()).filter(Boolean),
        modality: modality.value.trim().toUpperCase(), q: plan.q, shared: Number(shared.value) / 100, shared_readers: Number(many.value), order: order.value, seed: plan.seed,
      };
      await this.app.api.json<Plan>("work/plan", { method: "PUT", body });
      this.app.notify("The plan is kept; its items are being looked for.");
    });
    fill(this.planPlace, h("form", { class: "stack", onsubmit: (event: Event) => { event.preventDefault(); void save(); } },
      h("label", { for: "work-labels" }, "Labels, one a line. A name alone is drawn; after a colon stand classes (a < b: grades)."), labels,
      h("label", { class: "row" }, "Readers", readers), h("label", { class: "row" }, "Modality", modality),
      h("label", { class: "row" }, "Share of patients with several readers, %", shared), h("label", { class: "row" }, "How many readers", many),
      h("label", { class: "row" }, "Order", order), h("div", null, h("button", { type: "submit" }, "Keep plan"))));
  }

  // --- agreement ---------------------------------------------------------------------------------------------------

  private drawAgreement(plan: Plan): void {
    const label = labelChoice(plan.labels);
    const tolerance = h("input", { type: "number", id: "work-tolerance", min: 0, max: 100, step: 0.5, value: 2 });
    const place = h("div", { class: "stack" });
    let turn = 0;
    const ask = (): Promise<void> => this.act(async () => {
      const [asked, name] = [++turn, label.value];
      fill(place);
      const found = await this.app.api.json<Agreement>(`work/agreement?${new URLSearchParams({ label: name, tolerance_mm: tolerance.value })}`);
      if (asked === turn) fill(place, h("h3", null, `Agreement on “${name}”`), this.agreement(found));
    });
    fill(this.agreementPlace, plan.labels.length
      ? h("form", { class: "row", onsubmit: (event: Event) => { event.preventDefault(); void ask(); } }, h("label", { class: "row" }, "Label", label), h("label", { class: "row" }, "Tolerance, mm", tolerance), h("button", { type: "submit" }, "Compare readers"))
      : h("p", { class: "quiet" }, "There is no plan yet."), place);
  }

  private agreement(found: Agreement): HTMLElement {
    if (!found.pairs.length) return h("p", { class: "quiet" }, "No image has been labelled by two readers yet.");
    const heads = found.kind === "mask" ? ["Readers", "Images", "Dice", `NSD at ${found.tolerance_mm} mm`, "Kappa of presence"] : ["Readers", "Images", "Same class", "Kappa"];
    const rows = found.pairs.map((pair) => h("tr", null, h("td", null, pair.readers.join(" and ")), h("td", null, `${pair.images} of ${pair.patients} patients`),
      (found.kind === "mask" ? [figure(pair.dice), figure(pair.nsd), figure(pair.presence?.kappa)] : [`${((pair.agreed ?? 0) * 100).toFixed(0)} %`, figure(pair.kappa)]).map((text) => h("td", null, text))));
    const least = found.disagreements.slice(0, 20).map((row) => h("li", null,
      `${row.readers.join(" and ")}: ${row.answers ? row.answers.join(" against ") : `Dice ${row.dice?.toFixed(3)}`} `,
      h("button", { type: "button", class: "plain", onclick: () => void this.act(async () => this.open(await this.app.api.json<Item>(`work/items/${row.item}`))) }, "Show")));
    return h("div", { class: "stack" },
      h("table", null, h("thead", null, h("tr", null, heads.map((text) => h("th", { scope: "col", style: { "text-align": "left" } }, text)))), h("tbody", null, rows)),
      h("h3", null, "Least agreement first"), h("ol", null, least), found.notes.map((note) => h("p", { class: "quiet" }, note)));
  }

  // --- export ------------------------------------------------------------------------------------------------------

  private drawExport(plan: Plan): void {
    const form = h("select", { id: "work-form" }, FORMS.map(([value, text]) => h("option", { value }, text)));
    const choose = h("select", { id: "work-choose" }, h("option", { value: "latest" }, "the latest"), h("option", { value: "majority" }, "what most drew"), plan.readers.map((one) => h("option", { value: `reader:${one}` }, `of ${one}`)));
    const parts = h("input", { type: "text", id: "work-parts", placeholder: "train=0.8,test=0.2" });
    const suffix = h("input", { type: "text", id: "work-suffix", size: 6, placeholder: "T1w" });
    const place = h("div", { class: "stack", role: "status" });
    const make = (): Promise<void> => this.act(async () => {
      fill(place, h("p", { class: "quiet" }, "Writing, and reading back every case ..."));
      try {
        const body = { form: form.value, choose: choose.value, parts: parts.value.trim(), suffix: suffix.value.trim() };
        const told = await this.app.api.json<Export>("work/exports", { method: "POST", body });
        const why = told.left_out.length ? ` ${told.left_out.length} left out: ${told.left_out[0][1]}.` : "";
        fill(place, h("p", null, `${told.cases} cases, ${(told.bytes / 1e6).toFixed(1)} MB.${why}`),
          h("button", { type: "button", onclick: () => void this.act(() => this.download(told)) }, "Save file"), told.notes.map((note) => h("p", { class: "quiet" }, note)));
      } catch (error) {
        fill(place);
        throw error;
      }
    });
    fill(this.exportPlace, h("form", { class: "stack", onsubmit: (event: Event) => { event.preventDefault(); void make(); } },
      h("label", { class: "row" }, "Form", form), h("label", { class: "row" }, "Of several readers' masks", choose),
      h("label", { class: "row" }, "Parts, by patient", parts), h("label", { class: "row" }, "Contrast (BIDS)", suffix), h("div", null, h("button", { type: "submit" }, "Export"))), place);
  }

  private async download(told: Export): Promise<void> {
    const bytes = await this.app.api.bytes(`work/exports/${told.id}.zip`);
    const url = URL.createObjectURL(new Blob([bytes], { type: "application/zip" }));
    h("a", { href: url, download: `labels-${told.form}.zip` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

function folded(title: string, place: HTMLElement): HTMLElement {
  return h("details", { class: "card" }, h("summary", null, title), place);
}

function labelChoice(labels: Label[]): HTMLSelectElement {
  return h("select", { id: "work-label" }, labels.map((one) => h("option", { value: one.name }, one.name)));
}

function figure(value: Figure | null | undefined): string {
  if (!value) return "none";
  return value.low === null || value.high === null ? value.value.toFixed(3) : `${value.value.toFixed(3)} (${value.low.toFixed(3)} to ${value.high.toFixed(3)})`;
}

function parseLabels(text: string): Label[] {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const at = line.indexOf(":");
    if (at < 0) return { name: line, kind: "mask" as const, classes: [], graded: false };
    const graded = line.includes("<", at);
    const classes = line.slice(at + 1).split(graded ? "<" : ",").map((one) => one.trim()).filter(Boolean);
    return { name: line.slice(0, at).trim(), kind: "class" as const, classes, graded };
  });
}
