// The report: sentences that lead into the picture, edited in place under the ledger's eye, and signed.

import { ApiError } from "../api";
import { errorText, type App } from "../app";
import { fill, h } from "../dom";
import { download } from "../reports/files";
import { canJump, chips, jump, SPOT } from "../reports/places";
import type { Draft, EditedSentence, Part, Reading, SectionName, Sentence, Untold } from "../reports/types";
import "../styles/reports.css";

const FORMS = { sr: "DICOM SR", fhir: "FHIR R4", pdf: "PDF" };
const EDITABLE: SectionName[] = ["indication", "comparison", "findings", "impression"];

export function mount(host: HTMLElement, app: App): () => void {
  const panel = new ReportPanel(host, app);
  return () => panel.end();
}

class ReportPanel {
  private draft: Draft | null = null;
  private busy = false;
  /** The sentence that is open for editing, or "new:PART:SECTION". */
  private editing = "";
  /** What was typed and differs from what stands there: null where nothing would be lost. */
  private pending: string | null = null;
  /** The draft that it is a sentence of, and the sentence as it stood when its editor was opened. */
  private edited = "";
  private stood = "";
  /** The study's latest reading; null where none is known. */
  private latest: string | null = null;
  /** The form of a draft of it, kept while its draft is drawn anew, with what was typed. */
  private renewal: { of: string; form: HTMLElement } | null = null;
  private here = "";
  private ended = false;
  private study = "";
  /** Whether the server has said which drafts there are. */
  private known = false;
  private signing: HTMLDialogElement | null = null;
  /** Counts what was asked of the server, so that a late answer never takes the place of a newer one. */
  private turn = 0;
  private readonly body = h("div", { class: "report" });
  private readonly live = h("div", { class: "hidden-text", role: "status", "aria-live": "assertive" });
  private readonly ends: (() => void)[] = [];

  constructor(host: HTMLElement, private readonly app: App) {
    fill(host, this.live, this.body);
    const active = (): boolean => app.store.get().tab === "report" && this.draft !== null;
    const open = (): boolean => active() && !this.draft!.signed && !this.busy;
    this.ends.push(app.commands.register(
      { id: "report.next", label: "Next sentence, and its place", group: "Report", keys: ["alt+n"], run: () => this.step(1), enabled: active },
      { id: "report.previous", label: "Sentence before, and its place", group: "Report", keys: ["alt+p"], run: () => this.step(-1), enabled: active },
      { id: "report.edit", label: "Edit the sentence", group: "Report", keys: ["alt+enter"], run: () => this.editHere(), enabled: () => open() && this.here !== "" },
      { id: "report.remove", label: "Remove the sentence", group: "Report", keys: ["alt+delete", "alt+backspace"], run: () => void this.remove(this.here), enabled: () => open() && this.here !== "" },
      { id: "report.sign", label: "Sign the report", group: "Report", keys: ["alt+s"], run: () => this.askToSign(), enabled: open },
    ));
    this.ends.push(app.store.watch(["study"], ({ study }) => {
      if (study && study.id !== this.study) void this.load(study.id);
    }));
    const stay = (event: Event): void => {
      if (this.pending !== null) event.preventDefault();
    };
    addEventListener("beforeunload", stay);
    this.ends.push(() => removeEventListener("beforeunload", stay));
    this.ends.push(app.store.subscribe((state, before) => {
      if (state.shared.reading === before.shared.reading || !this.study) return;
      // Known before the answer of the server: what is of an older reading can't be signed meanwhile.
      this.latest = (state.shared.reading as string | undefined) ?? null;
      if (this.outdated) this.render();
      void this.load(this.study);
    }));
  }

  end(): void {
    this.ended = true;
    for (const end of this.ends) end();
    // What is signed is the report on the screen, never that of a study that was left.
    this.signing?.close();
    if (this.pending !== null) this.app.notify(`The report was left. Typed there, and not kept: “${this.pending}”`, "error");
  }

  private async load(study: string): Promise<void> {
    const other = study !== this.study;
    // What is open for editing is one patient's; nothing of it may stand in another's report.
    if (other) {
      this.editing = this.here = "";
      this.pending = this.latest = null;
    }
    this.study = study;
    // What is there stays as it is, with what was typed and where the focus is, while nothing else is there to show.
    if (other) {
      this.known = false;
      this.show(null);
    }
    const turn = ++this.turn;
    try {
      const drafts = await this.app.api.json<Draft[]>(`studies/${study}/drafts`);
      const latest = drafts.length ? await this.latestReading(study) : null;
      if (turn !== this.turn) return;
      if (!drafts.length) {
        // A form that is there already keeps what was typed.
        if (this.known) return;
        this.known = true;
        return this.show(null);
      }
      this.latest = latest;
      // The report of what the findings show; where there is none of it, the newest says that it is older.
      this.show(drafts.find((one) => one.reading === latest) ?? drafts[0]);
    } catch (error) {
      if (turn !== this.turn || this.ended) return;
      this.fail(error);
      if (!this.known) fill(this.body, h("p", { class: "bad" }, "Whether there is a report of this study could not be asked."), h("div", { class: "row" }, h("button", { type: "button", onclick: () => void this.load(study) }, "Ask again")));
    }
  }

  private async latestReading(study: string): Promise<string | null> {
    if (!this.app.store.get().info?.offers?.includes("readings")) return null;
    try {
      return (await this.app.api.json<Reading>(`studies/${study}/readings/latest`)).reading;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }

  /** Whether the draft is of a reading that another one has taken the place of. */
  private get outdated(): boolean {
    return this.draft !== null && this.latest !== null && this.draft.reading !== this.latest;
  }

  /** Whether signing has to wait for a draft of the latest reading. An amendment corrects what was signed, of its own reading. */
  private get superseded(): boolean {
    return this.outdated && this.draft!.signed === null && this.draft!.amends === null;
  }

  /** Show a draft of a study; one that was left meanwhile is not shown again. */
  private show(draft: Draft | null, study = this.study): void {
    if (this.ended || study !== this.study) return;
    this.turn++;
    if (draft && this.editing && draft.id !== this.edited) this.drop("Another draft is shown.");
    this.draft = draft;
    if (draft) this.known = true;
    this.app.store.set({ shared: { ...this.app.store.get().shared, draft: draft?.id ?? null } });
    this.render();
    // Somebody else may have removed its sentence, or signed: what nobody sees must not wait to be kept.
    if (this.editing && !this.body.querySelector("[data-focus=editor]")) this.drop("What was edited can't be edited any more.");
  }

  /** Close the editor of what is not shown any more: its text may stand in no other sentence. */
  private drop(why: string): void {
    if (this.pending !== null) this.app.notify(`${why} Typed, and not kept: “${this.pending}”`, "error");
    this.editing = this.here = "";
    this.pending = null;
  }

  private fail(error: unknown): void {
    this.app.notify(errorText(error), "error");
    this.live.textContent = errorText(error);
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------

  private render(): void {
    const focused = document.activeElement instanceof HTMLElement && this.body.contains(document.activeElement)
      ? document.activeElement.dataset.focus : undefined;
    const draft = this.draft;
    if (!draft && !this.known) return fill(this.body, h("p", { class: "quiet" }, "…"));
    if (!draft) return fill(this.body, this.form("There is no draft of this study yet. It is made of the latest reading; every sentence leads to its evidence.", "Make a draft"));
    const several = draft.parts.length > 1;
    fill(this.body,
      this.head(draft),
      draft.parts.map((part, number) => [
        several ? h("h2", null, part.of ? `${part.exam}: ${part.of}` : part.exam) : null,
        ...part.sections.map((section) => h("section", { "aria-label": section.title },
          h("h3", null, section.title),
          h("ol", { class: "said" }, section.sentences.map((sentence) => this.sentence(sentence, section.name, number))),
          this.adder(section.name, number),
        )),
        this.untold(part, number),
      ]).flat(),
      this.foot(draft),
    );
    if (focused) this.body.querySelector<HTMLElement>(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  private form(words: string, button: string, like: Draft | null = null): HTMLElement {
    const language = h("select", { name: "language" },
      h("option", { value: "en" }, "English"), h("option", { value: "es" }, "Español"), h("option", { value: "zh" }, "中文"));
    if (like) language.value = like.language;
    const asked = like?.parts[0]?.sections.find((section) => section.name === "indication")?.sentences ?? [];
    const indication = h("textarea", { name: "indication", maxlength: 2000, rows: 2 }, asked.map((one) => one.text).join(" "));
    const make = async (event: Event): Promise<void> => {
      event.preventDefault();
      if (this.unkept()) return;
      const study = this.study;
      try {
        const draft = await this.app.api.json<Draft>(`studies/${study}/draft`, {
          method: "POST", body: { language: language.value, indication: indication.value },
        });
        if (study === this.study) this.latest = draft.reading;
        this.show(draft, study);
        this.live.textContent = "A draft is there.";
      } catch (error) {
        if (error instanceof ApiError && error.problem.code === "not_read") this.app.store.set({ tab: "findings" });
        this.fail(error);
      }
    };
    return h("form", { class: "stack", onsubmit: (event: Event) => void make(event) },
      h("p", { class: "quiet" }, words),
      h("label", { class: "stack" }, "Indication, as the clinician gave it", indication),
      h("label", { class: "row" }, "Language", language),
      h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, button)),
    );
  }

  private head(draft: Draft): HTMLElement {
    const facts = draft.signed
      ? `Signed by ${draft.signed.by}, ${when(draft.signed.at)}. Version ${draft.version}.`
      : `Version ${draft.version}${draft.reader ? ` by ${draft.reader}` : ""}, not signed${draft.amends ? `; amends version ${draft.amends}` : ""}.`;
    const mark = draft.signed ? `AI draft, signed by ${draft.signed.by}. Research software, not a medical device.` : draft.mark;
    const withheld = draft.withheld
      ? h("p", { class: "bad", id: "report-withheld" }, `${draft.withheld} ${draft.withheld === 1 ? "sentence is" : "sentences are"} withheld: correct or remove before signing.`)
      : null;
    return h("div", { class: "stack" }, h("p", { class: "mark" }, mark), h("p", { class: "quiet" }, facts), this.outdated ? this.older(draft) : null, withheld);
  }

  /** That the findings show a newer reading than this report was made of, and the way to a draft of it. */
  private older(draft: Draft): HTMLElement {
    const of = `${draft.id} ${this.latest}`;
    if (this.renewal?.of !== of) this.renewal = { of, form: this.form("A draft of the latest reading is made anew: what was edited here is not in it.", "Make a draft of the latest reading", draft) };
    const kind = draft.signed ? "This signed report" : draft.amends === null ? "This draft" : "This amendment";
    return h("section", { class: "card warn", id: "report-older", "aria-label": "Older reading" },
      h("p", null, `${kind} is of an older reading than the tab Findings shows.${this.superseded ? " It can't be signed." : ""}`),
      this.renewal.form);
  }

  private sentence(one: Sentence, section: SectionName, part: number): HTMLElement {
    const place = one.evidence.find(canJump);
    const locked = this.draft!.signed !== null;
    const item = h("li", { class: `sentence ${one.verdict}${one.id === this.here ? " here" : ""}`, "data-sentence": one.id });
    if (!locked && this.editing === one.id) {
      item.append(this.editor(one.text, `Edit: ${one.text}`, (text) => void this.save(one.id, section, part, text)));
      return item;
    }
    const said = one.verdict === "withheld" ? h("del", null, one.text) : one.text;
    const reason = `why-${one.id}`;
    item.append(h("button", {
      type: "button", class: "text", "data-focus": one.id, "data-jump": place ? "yes" : "no",
      "aria-describedby": one.verdict === "withheld" ? reason : null,
      "aria-label": one.verdict === "withheld" ? `Withheld: ${one.text}` : place ? `${one.text} Show where.` : null,
      onclick: () => this.choose(one),
    }, said));
    if (one.verdict === "withheld") item.append(h("p", { class: "why", id: reason }, `Withheld: ${one.reason}`));
    const acts = h("div", { class: "acts" });
    if (one.verdict === "edited") acts.append(h("span", { class: "good" }, "edited, held"));
    if (one.verdict === "given") acts.append(h("span", null, "as given"));
    if (!locked && EDITABLE.includes(section)) {
      acts.append(
        h("button", { type: "button", "aria-label": `Edit: ${one.text}`, "data-edit": one.id, onclick: () => this.edit(one.id) }, "Edit"),
        h("button", { type: "button", "aria-label": `Remove: ${one.text}`, onclick: () => void this.remove(one.id) }, "Remove"),
      );
    }
    if (one.evidence.length) acts.append(chips(this.app, one.evidence));
    if (acts.childElementCount) item.append(acts);
    return item;
  }

  private editor(text: string, label: string, done: (text: string) => void): HTMLElement {
    const area = h("textarea", { "aria-label": label, maxlength: 1000, "data-focus": "editor" });
    area.value = this.pending ?? text;
    area.addEventListener("input", () => (this.pending = area.value === text ? null : area.value));
    area.addEventListener("keydown", (event) => {
      // Enter and Escape of an input method choose a word: the sentence is still being written.
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        this.cancel();
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        done(area.value);
      }
    });
    setTimeout(() => area.focus());
    const meanwhile = this.pending !== null && text !== this.stood ? h("p", { class: "warn" }, `It was changed meanwhile, and stands now: “${text}”`) : null;
    return h("div", { class: "stack" }, meanwhile, area, h("div", { class: "row" },
      h("button", { type: "button", class: "primary", onclick: () => done(area.value) }, "Check and keep"),
      h("button", { type: "button", onclick: () => this.cancel() }, "Cancel"),
      h("span", { class: "quiet" }, "Enter keeps, Esc leaves"),
    ));
  }

  private adder(section: SectionName, part: number): HTMLElement | null {
    if (this.draft!.signed || !EDITABLE.includes(section)) return null;
    const name = `new:${part}:${section}`;
    if (this.editing === name) return this.editor("", `New sentence of ${section}`, (text) => void this.save(null, section, part, text));
    return h("button", { type: "button", class: "plain quiet", "aria-label": `Add a sentence to ${section}`, onclick: () => this.edit(name) }, "+ sentence");
  }

  private untold(part: Part, number: number): HTMLElement | null {
    if (!part.untold.length) return null;
    return h("section", { class: "untold", "aria-label": "Not told any more" },
      h("h3", null, "Found, and not told"),
      h("ul", { class: "said" }, part.untold.map((one) => h("li", { class: "row" },
        h("span", { class: "grow" }, one.text),
        this.draft!.signed ? null : h("button", { type: "button", "aria-label": `Put back: ${one.text}`, onclick: () => void this.putBack(one, number) }, "Put back"),
      ))),
    );
  }

  private foot(draft: Draft): HTMLElement {
    if (draft.signed) {
      return h("section", { "aria-label": "Signed report" },
        h("h3", null, "Files"),
        h("ul", { class: "files" },
          draft.signed.files.map((file) => h("li", null,
            h("button", { type: "button", "data-form": file.form, onclick: () => void download(this.app, file.url, `${draft.id}-${file.name}`) }, `${FORMS[file.form]} (${Math.ceil(file.size_bytes / 1024)} kB)`),
            h("br"), h("code", { title: "sha256" }, file.sha256),
          )),
          draft.signed.not_written.map((one) => h("li", { class: "warn" }, `No ${one.form.toUpperCase()}: ${one.why}.`)),
        ),
        h("div", { class: "row" }, h("button", { type: "button", onclick: () => void this.amend() }, "Amend")),
      );
    }
    const reasons = [draft.withheld ? "report-withheld" : "", this.superseded ? "report-older" : ""].filter(Boolean);
    const blocked = reasons.length > 0;
    return h("div", { class: "row" },
      h("button", {
        type: "button", class: blocked ? null : "primary", disabled: blocked, "data-focus": "sign", title: "Sign the report (Alt+S)",
        "aria-describedby": blocked ? reasons.join(" ") : null, onclick: () => this.askToSign(),
      }, "Sign…"),
    );
  }

  // ---- acting --------------------------------------------------------------------------------------------------------

  private all(): Sentence[] {
    return this.draft?.parts.flatMap((part) => part.sections.flatMap((section) => section.sentences)) ?? [];
  }

  private choose(one: Sentence): void {
    this.here = one.id;
    for (const item of this.body.querySelectorAll<HTMLElement>(".sentence")) item.classList.toggle("here", item.dataset.sentence === one.id);
    const place = one.evidence.find(canJump);
    if (place) return jump(this.app, place);
    // The outline of the sentence before does not stay as "what the sentence is about".
    this.app.hideOverlay(SPOT);
    if (one.evidence.length) this.live.textContent = "This rests on a number of the whole image.";
  }

  private step(by: number): void {
    const all = this.all();
    if (!all.length) return;
    const now = all.findIndex((one) => one.id === this.here);
    const next = all[now < 0 ? (by > 0 ? 0 : all.length - 1) : (now + by + all.length) % all.length];
    this.choose(next);
    this.body.querySelector<HTMLElement>(`[data-focus="${CSS.escape(next.id)}"]`)?.focus();
  }

  /** Whether something is typed that is neither kept nor cancelled; then that comes first, and it is said. */
  private unkept(): boolean {
    if (this.pending === null) return false;
    this.app.notify("Keep or cancel your edit first.", "error");
    this.body.querySelector<HTMLElement>("[data-focus=editor]")?.focus();
    return true;
  }

  private edit(id: string): void {
    if (this.editing === id ? this.pending !== null : this.unkept()) return;
    this.editing = id;
    this.edited = this.draft!.id;
    this.stood = this.all().find((one) => one.id === id)?.text ?? "";
    this.pending = null;
    this.render();
  }

  private editHere(): void {
    const section = this.draft?.parts.flatMap((part) => part.sections).find((one) => one.sentences.some((s) => s.id === this.here));
    if (section && EDITABLE.includes(section.name)) this.edit(this.here);
    else this.app.notify("This sentence is the machine's: it says how the study was examined, and is not edited.");
  }

  private cancel(): void {
    const id = this.editing;
    this.editing = "";
    this.pending = null;
    this.render();
    this.body.querySelector<HTMLElement>(`[data-focus="${CSS.escape(id)}"]`)?.focus();
  }

  private given(): EditedSentence[] {
    return this.draft!.parts.flatMap((part, number) => part.sections.flatMap((section) =>
      section.sentences.map(({ id, text }) => ({ id, section: section.name, text, part: number }))));
  }

  private save(id: string | null, section: SectionName, part: number, text: string): Promise<void> {
    const given = this.given();
    if (id === null) given.push({ id: null, section, text, part });
    else for (const one of given) if (one.id === id) one.text = text;
    return this.put(given, id);
  }

  private putBack(one: Untold, part: number): Promise<void> {
    return this.unkept() ? Promise.resolve() : this.save(null, one.section, part, one.text);
  }

  private remove(id: string): Promise<void> {
    if (this.unkept()) return Promise.resolve();
    const given = this.given();
    const at = given.findIndex((one) => one.id === id);
    if (at < 0 || !EDITABLE.includes(given[at].section)) return Promise.resolve();
    const next = given[at + 1]?.id ?? given[at - 1]?.id ?? "";
    return this.put(given.filter((one) => one.id !== id), next);
  }

  private async put(sentences: EditedSentence[], focus: string | null): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    const { study, editing, pending } = this;
    const before = new Set(this.all().filter((one) => one.verdict === "withheld").map((one) => one.text));
    try {
      const draft = await this.app.api.json<Draft>(`drafts/${this.draft!.id}`, { method: "PUT", body: { version: this.draft!.version, sentences } });
      if (study !== this.study) return;
      // What was opened or typed while this was on its way is not in it, and stays.
      if (this.editing === editing && this.pending === pending) {
        this.editing = "";
        this.pending = null;
      }
      this.here = focus ?? this.here;
      this.show(draft);
      if (focus && !this.editing) this.body.querySelector<HTMLElement>(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
      const fresh = this.all().filter((one) => one.verdict === "withheld" && !before.has(one.text));
      this.live.textContent = fresh.length ? fresh.map((one) => `Sentence withheld: ${one.reason}`).join(". ") : "Kept: the ledger holds it.";
    } catch (error) {
      this.fail(error);
      if (study === this.study) await this.reload(error);
    } finally {
      this.busy = false;
    }
  }

  /** Somebody else was first: their version is shown, and what was typed stays in the editor. */
  private async reload(error: unknown): Promise<void> {
    if (!(error instanceof ApiError) || !["stale", "signed", "not_signed"].includes(error.problem.code ?? "")) return;
    const study = this.study;
    try {
      this.show(await this.app.api.json<Draft>(`drafts/${this.draft!.id}`), study);
    } catch (error) {
      this.fail(error);
    }
  }

  private askToSign(): void {
    const draft = this.draft!;
    if (draft.withheld) return this.app.notify("Sentences are withheld: correct or remove them before signing.", "error");
    if (this.superseded) return this.app.notify("This draft is of an older reading: make a draft of the latest one.", "error");
    if (this.unkept()) return;
    if (this.editing) this.cancel();
    const name = h("input", { name: "by", required: true, minlength: 2, maxlength: 64, autocomplete: "name", value: localStorage.getItem("isocenter.signer") ?? "" });
    const problem = h("p", { class: "bad", role: "alert" });
    const sure = h("button", { class: "primary", type: "submit" }, "Sign");
    const dialog = h("dialog", { "aria-labelledby": "sign-title" },
      h("h2", { id: "sign-title" }, `Sign version ${draft.version}?`),
      h("p", null, `${this.all().length} sentences. A DICOM SR, a FHIR report and a PDF are written. A signed report can't be changed, only amended.`),
      h("p", { class: "mark" }, "It will say: AI draft, signed by you; research software, not a medical device."),
      h("form", {
        method: "dialog", class: "stack",
        onsubmit: (event: Event) => {
          event.preventDefault();
          void this.sign(draft, name.value, sure, problem).then((ok) => ok && dialog.close());
        },
      },
      h("label", { class: "stack" }, "Your name, as it shall stand on the report", name), problem,
      h("div", { class: "row" }, sure, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"))),
    );
    this.signing = dialog;
    dialog.addEventListener("close", () => {
      this.signing = null;
      dialog.remove();
      this.body.querySelector<HTMLElement>("[data-form], [data-focus=sign]")?.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
    name.select();
  }

  private async sign(asked: Draft, by: string, button: HTMLButtonElement, problem: HTMLElement): Promise<boolean> {
    button.disabled = true;
    problem.textContent = "";
    const study = this.study;
    try {
      const draft = await this.app.api.json<Draft>(`drafts/${asked.id}/sign`, { method: "POST", body: { version: asked.version, by } });
      localStorage.setItem("isocenter.signer", by);
      this.show(draft, study);
      // With accounts the name is that of the account, whatever was typed.
      this.live.textContent = `Signed by ${draft.signed?.by ?? by}.`;
      if (this.ended) this.app.notify("The report of the study that was left is signed.");
      return true;
    } catch (error) {
      problem.textContent = errorText(error);
      if (!problem.isConnected) this.app.notify(errorText(error), "error");
      if (study === this.study && !this.ended) await this.reload(error);
      return false;
    } finally {
      button.disabled = false;
    }
  }

  private async amend(): Promise<void> {
    const study = this.study;
    try {
      this.show(await this.app.api.json<Draft>(`drafts/${this.draft!.id}/amend`, { method: "POST", body: { version: this.draft!.version } }), study);
      this.live.textContent = "An amendment has begun: the signed report stays as it is.";
    } catch (error) {
      this.fail(error);
      if (study === this.study) await this.reload(error);
    }
  }
}

function when(iso: string): string {
  return iso.replace("T", " ").replace(/\+00:00$/, " UTC");
}
