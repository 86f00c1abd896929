// What tasks answered, as likely as they say it is; what they did not examine stands beside it, as visible.

import { ApiError, type Job } from "../api";
import { errorText, type App, type OverlaySpec } from "../app";
import { fill, h } from "../dom";
import { round } from "../reports/charts";
import { picture } from "../reports/files";
import type { Answer, Reading, Uncertainty } from "../reports/types";
import "../styles/reports.css";

const CHANCE = "Probability of ";
const POLL_MS = 400;
const SHOWN_FIRST = ["Volume", "Area at the detector plane", "Area", "Long axis", "Maximum 3D Diameter of a Mesh", "Long axis at the detector plane"];

export function mount(host: HTMLElement, app: App): () => void {
  const panel = new FindingsPanel(host, app);
  return () => panel.end();
}

class FindingsPanel {
  private study = "";
  private job = "";
  private ended = false;
  private readonly run = h("section", { "aria-label": "Reading" });
  private readonly body = h("div", {});
  private readonly live = h("div", { class: "hidden-text", role: "status", "aria-live": "polite" });
  private readonly ends: (() => void)[] = [];
  private pictures: (() => void)[] = [];

  constructor(host: HTMLElement, private readonly app: App) {
    fill(host, this.live, this.run, this.body);
    this.ends.push(app.commands.register(
      { id: "findings.read", label: "Read this study", group: "Findings", keys: ["alt+r"], run: () => {
        app.store.set({ tab: "findings" });
        // As the form says: what was chosen or stated there is what is read.
        this.run.querySelector("form")?.requestSubmit();
      } },
      { id: "findings.stop", label: "Stop the reading", group: "Findings", keys: ["alt+x"], run: () => void this.stop(), enabled: () => this.job !== "" },
    ));
    this.ends.push(app.store.watch(["study"], ({ study }) => {
      if (!study || study.id === this.study) return;
      this.study = study.id;
      this.job = "";
      this.form();
      // What was never read is not asked for: the server would have nothing to answer.
      if (study.status === "read" || study.status === "signed") void this.load();
      else fill(this.body, h("p", { class: "quiet" }, "This study has not been read yet."));
    }));
  }

  end(): void {
    this.ended = true;
    for (const end of [...this.ends, ...this.pictures]) end();
  }

  private async load(): Promise<void> {
    const study = this.study;
    fill(this.body, h("p", { class: "quiet" }, "…"));
    try {
      const reading = await this.app.api.json<Reading>(`studies/${study}/readings/latest`);
      if (this.ended || study !== this.study) return;
      this.app.store.set({ shared: { ...this.app.store.get().shared, reading: reading.reading } });
      this.show(reading);
    } catch (error) {
      if (this.ended || study !== this.study) return;
      const none = error instanceof ApiError && error.status === 404;
      fill(this.body, h("p", { class: none ? "quiet" : "bad", role: none ? null : "alert" }, none ? "This study has not been read yet." : errorText(error)));
    }
  }

  // ---- running a reading ---------------------------------------------------------------------------------------------

  private form(): void {
    const { info, study } = this.app.store.get();
    const tasks = h("select", { name: "tasks" }, h("option", { value: "auto" }, "Every task that fits"),
      (info?.tasks ?? []).filter((task) => !task.needs_prompt).map((task) => h("option", { value: task.name }, task.title)));
    const evidence = h("input", { type: "checkbox", name: "evidence", checked: true });
    const prior = h("select", { name: "prior" }, h("option", { value: "" }, "No comparison"),
      (study?.priors ?? []).map((one) => h("option", { value: one.id }, `${one.study_date ?? "without a date"} ${one.description}`)));
    const unknown = (study?.images ?? []).some((image) => !image.modality);
    const modality = h("input", { name: "modality", maxlength: 16, size: 6, pattern: "[A-Za-z0-9_ ]+", placeholder: "MR" });
    const part = h("input", { name: "body_part", maxlength: 16, size: 10, pattern: "[A-Za-z0-9_ ]+", placeholder: "BRAIN" });
    const begin = (event: Event): void => {
      event.preventDefault();
      void this.start({
        tasks: tasks.value === "auto" ? "auto" : [tasks.value], evidence: evidence.checked, prior: prior.value || null,
        ...(modality.value.trim() ? { modality: modality.value.trim().toUpperCase() } : {}),
        ...(part.value.trim() ? { body_part: part.value.trim().toUpperCase() } : {}),
      });
    };
    fill(this.run, h("form", { class: "stack", onsubmit: begin },
      h("label", { class: "row" }, "Tasks", tasks),
      (study?.priors ?? []).length ? h("label", { class: "row" }, "Compare with", prior) : null,
      h("label", { class: "row" }, evidence, "Ask why: maps and nearest cases"),
      h("details", { open: unknown }, h("summary", null, "State what the files do not say"),
        h("div", { class: "row" }, h("label", { class: "row" }, "Modality", modality), h("label", { class: "row" }, "Body part", part))),
      h("div", { class: "row" }, h("button", { class: "primary", type: "submit", title: "Read this study (Alt+R)" }, "Read this study")),
    ));
  }

  private async start(body: object): Promise<void> {
    const study = this.study;
    try {
      const { job } = await this.app.api.json<{ job: string }>(`studies/${study}/readings`, { method: "POST", body });
      if (study !== this.study) return this.app.notify("The study that was left is being read.");
      this.job = job;
      await this.watch(job);
    } catch (error) {
      this.job = "";
      this.form();
      this.app.notify(errorText(error), "error");
    }
  }

  private async stop(): Promise<void> {
    if (!this.job) return;
    try {
      await this.app.api.json(`jobs/${this.job}/stop`, { method: "POST" });
    } catch (error) {
      this.app.notify(errorText(error), "error");
    }
  }

  private async watch(job: string): Promise<void> {
    const bar = h("progress", { max: 1, value: 0, "aria-label": "Reading" });
    const stage = h("span", { class: "grow quiet" }, "waiting for its turn");
    const stop = h("button", { type: "button", title: "Stop the reading (Alt+X)", onclick: () => void this.stop() }, "Stop");
    fill(this.run, h("div", { class: "stack" }, bar, h("div", { class: "row" }, stage, stop)));
    stop.focus();
    let said = "";
    while (!this.ended && this.job === job) {
      let now: Job;
      try {
        now = await this.app.api.json<Job>(`jobs/${job}`);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 0) throw error;
        // The reading goes on without us: asked again, it is not lost from view.
        stage.textContent = errorText(error);
        await new Promise((go) => setTimeout(go, 5 * POLL_MS));
        continue;
      }
      bar.value = now.done;
      const words = now.state === "queued" ? "waiting for its turn" : now.stage;
      stage.textContent = `${words} (${Math.round(100 * now.done)} %)`;
      if (words !== said) this.live.textContent = said = words;
      if (now.state === "done" || now.state === "failed" || now.state === "stopped") {
        this.job = "";
        // Whoever works elsewhere by keys meanwhile is not taken away from it.
        const here = this.run.contains(document.activeElement);
        this.form();
        this.live.textContent = now.state === "done" ? "The reading is done." : now.state === "stopped" ? "The reading was stopped; nothing was kept." : "The reading failed.";
        if (now.state === "done") await this.load();
        else this.app.notify(now.state === "stopped" ? "The reading was stopped; nothing was kept." : `The reading failed: ${now.problem?.detail ?? "no reason was told"}`, now.state === "failed" ? "error" : "info");
        if (here) this.run.querySelector<HTMLElement>("button[type=submit]")?.focus();
        return;
      }
      await new Promise((go) => setTimeout(go, POLL_MS));
    }
  }

  // ---- what was found ------------------------------------------------------------------------------------------------

  private show(reading: Reading): void {
    // What an older reading drew does not stay under the names of this one.
    const { overlays } = this.app.store.get();
    const own = overlays.filter((one) => !one.url?.includes("readings/") || one.url.includes(`readings/${reading.reading}/`));
    if (own.length < overlays.length) this.app.store.set({ overlays: own });
    for (const end of this.pictures) end();
    this.pictures = [];
    const answered = [...reading.predictions.entries()].filter(([, one]) => one.abstained === null);
    const silent = reading.predictions.filter((one) => one.abstained !== null);
    const several = reading.images.length > 1;
    const where = (one: Answer): string => (several ? ` · image ${one.image} ${reading.images.find((i) => i.index === one.image)?.modality ?? ""}` : "");
    const bad = reading.images.flatMap((image) => image.quality.filter((q) => q.status === "fail" || q.status === "warning").map((q) => `${several ? `Image ${image.index}: ` : ""}${q.detail}`));
    fill(this.body,
      h("p", { class: "mark" }, reading.disclaimer),
      h("p", { class: "quiet" }, `Read ${reading.created.replace("T", " ").slice(0, 16)} UTC. ${answered.length} answered, ${silent.length} did not.`),
      bad.length ? h("section", { "aria-label": "Quality" }, h("h2", null, "Quality of the images"), list(bad)) : null,
      h("section", { "aria-label": "Findings" }, h("h2", null, "Found"),
        answered.length ? answered.map(([number, one]) => this.answer(reading, number, one, where(one))) : h("p", { class: "warn" }, "No task answered.")),
      reading.comparison.length
        ? h("section", { "aria-label": "Comparison" }, h("h2", null, "Against the earlier study"), list(reading.comparison.map((one) => one.text)))
        : null,
      h("section", { "aria-label": "Not examined" }, h("h2", null, "Not examined"),
        silent.map((one) => h("div", { class: "answer abstained" },
          h("header", null, h("strong", null, `${one.title || one.task}${where(one)}`), h("span", { class: "tag warn" }, "abstained")),
          h("div", null, sentence(one.abstained ?? "")))),
        list([...reading.not_done.map((one) => `${one.what}: ${one.why}`), ...reading.left_out.filter((one) => one.kind === "refused").map((one) => `${one.where} was left out: ${one.reason}`)]),
        silent.length + reading.not_done.length ? null : h("p", { class: "quiet" }, "Every task answered; what no task looks for was not looked for.")),
    );
  }

  private answer(reading: Reading, number: number, one: Answer, where: string): HTMLElement {
    const chances = one.measurements.filter((m) => m.segment === null && m.name.meaning.startsWith(CHANCE));
    const set = one.uncertainty?.kind === "set" && one.uncertainty.members.length ? one.uncertainty : null;
    const maps = reading.links.maps.filter((m) => m.prediction === number);
    const near = one.evidence.filter((e) => e.kind === "neighbour");
    const missing = one.evidence.filter((e) => e.kind === "missing");
    const other = one.evidence.filter((e) => e.kind === "feature" || e.kind === "region");
    return h("article", { class: "answer", "aria-label": one.title || one.task },
      h("header", null, h("strong", null, `${one.title || one.task}${where}`), h("span", { class: "tag good" }, "answered")),
      set ? h("p", null, h("span", { class: "tag" }, promised(set)), " ", set.members.map((m) => m.meaning).join(" or ")) : null,
      chances.length ? this.chances(one, chances, set !== null) : null,
      one.segments.length ? this.outlines(reading, number, one) : null,
      maps.map((map) => this.map(map, one)),
      near.length ? h("details", null, h("summary", null, `${near.length} nearest confirmed cases`),
        h("ol", null, near.map((e) => h("li", null, e.text, h("span", { class: "quiet" }, ` (distance ${round(e.numbers.distance ?? 0)})`))))) : null,
      list(missing.map((e) => e.text)),
      h("details", null, h("summary", null, "How sure, by what, and not for what"),
        one.uncertainty ? h("p", null, one.uncertainty.description) : null,
        list(one.further.filter((f) => f.kind !== "set").map((f) => `${f.segment ? `${label(one, f.segment)}: ` : ""}${promised(f)} ${f.description}`)),
        one.likeness ? h("p", null, `Like the images it learnt from: ${one.likeness.description} (p ${round(one.likeness.p_value)}, refused at ${round(one.likeness.refused_share)})`) : null,
        list([...other.map((e) => e.text), ...one.notes]),
        one.model ? h("p", { class: "quiet" }, `${one.model.name} ${one.model.version}`) : null,
        h("p", { class: "quiet" }, `For: ${one.intended_use} Not for: ${one.not_for}`)),
    );
  }

  private chances(one: Answer, chances: Answer["measurements"], set: boolean): HTMLElement {
    const sets = new Map(one.further.filter((f) => f.kind === "set" && f.about).map((f) => [f.about!.meaning, f]));
    const sorted = [...chances].sort((a, b) => b.value - a.value);
    return h("ul", { class: "chances", "aria-label": "Probabilities" }, sorted.map((m) => {
      const name = m.name.meaning.slice(CHANCE.length);
      const own = sets.get(name);
      const states = own ? own.members.map((c) => c.meaning.toLowerCase()).sort().join(" or ") || "neither" : "";
      return h("li", null,
        h("span", null, name), h("span", { class: "mono" }, `${round(100 * m.value)} %`),
        h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", style: { width: `${100 * m.value}%` } })),
        own ? h("span", { class: states === "present" ? "warn" : "quiet", title: own.description }, `${Math.round(100 * (own.level ?? 0))} % set: ${states}`) : h("span", { class: "quiet" }, set ? "" : "no set promised"));
    }));
  }

  private outlines(reading: Reading, number: number, one: Answer): HTMLElement {
    const image = reading.links.images[String(one.image)] ?? null;
    return h("table", { class: "values" },
      h("caption", { class: "hidden-text" }, "Outlines and their sizes"),
      h("tbody", null, one.segments.map((segment) => {
        const own = one.measurements.filter((m) => m.segment === segment.number && m.derivation === null);
        const first = SHOWN_FIRST.map((name) => own.find((m) => m.name.meaning === name)).filter((m) => m !== undefined).slice(0, 2);
        const colour = hex(segment.colour);
        const spec: OverlaySpec = {
          id: `reading-${number}-${segment.number}`, image: image ?? "", name: segment.label, colour, opacity: 0.35, kind: "mask",
          url: `readings/${reading.reading}/masks/${number}?segment=${segment.number}`,
        };
        return h("tr", null,
          h("td", null, h("label", null, image ? this.toggle(spec) : null,
            h("span", { class: "swatch", style: { background: colour }, "aria-hidden": "true" }), segment.label)),
          h("td", null, first.map((m) => h("div", null, `${m.name.meaning} ${round(m.value)} ${m.unit.value}`, this.interval(one, segment.number, m.name.meaning)))),
        );
      })));
  }

  private interval(one: Answer, segment: number, name: string): string {
    const found = name === "Volume" ? one.further.find((f) => f.kind === "interval" && f.segment === segment && f.low !== null && f.level !== null) : undefined;
    return found ? ` (${Math.round(100 * found.level!)} %: ${round(found.low!)} to ${round(found.high!)})` : "";
  }

  private map(map: Reading["links"]["maps"][number], one: Answer): HTMLElement {
    const region = one.evidence.find((e) => e.kind === "region" && e.about === map.about);
    const spec: OverlaySpec | null = map.overlay && map.image
      ? { id: `map-${map.prediction}-${map.about}`, image: map.image, name: `Map of ${map.about}`, colour: "#ff9f40", opacity: 0.5, kind: "map", url: map.overlay }
      : null;
    const place = h("img", { class: "evidence", alt: `Where the networks looked for ${map.about}. ${region?.text ?? ""}` });
    const details = h("details", { ontoggle: () => {
      if (details.open && !place.src && map.url) this.pictures.push(picture(this.app, place, map.url));
    } }, h("summary", null, `Map of ${map.about}`), map.url ? place : null, h("p", { class: "quiet" }, map.text), region ? h("p", null, region.text) : null);
    return h("div", { class: "stack" },
      h("div", { class: "row" },
        spec ? h("label", null, this.toggle(spec), `Map of ${map.about} on the image`) : null,
        region && map.image ? h("button", { type: "button", class: "chip", onclick: () => this.goto(map.image!, region.numbers) }, "To its peak") : null),
      details);
  }

  private goto(image: string, numbers: Record<string, number>): void {
    const mm = ["L", "P", "S"].map((axis) => numbers[`peak ${axis} mm`]);
    const index = ["z", "y", "x"].map((axis) => numbers[`peak ${axis}`]);
    const point = mm.every((value) => typeof value === "number") ? (mm as [number, number, number]) : null;
    this.app.jumpTo(image, point, index.every((value) => typeof value === "number") ? (index as [number, number, number]) : undefined);
  }

  private toggle(spec: OverlaySpec): HTMLInputElement {
    const shown = this.app.store.get().overlays.some((one) => one.id === spec.id);
    const box = h("input", { type: "checkbox", checked: shown, "aria-label": `Show ${spec.name} on the image` });
    box.addEventListener("change", () => {
      if (box.checked) this.app.showOverlay(spec);
      else this.app.hideOverlay(spec.id);
    });
    return box;
  }
}

function promised(one: Uncertainty): string {
  const level = one.level === null ? "" : ` of ${Math.round(100 * one.level)} %`;
  if (one.kind === "set") return `Set${level}`;
  const unit = one.unit && one.unit.value !== "1" ? ` ${one.unit.value}` : "";
  if (one.low !== null && one.high !== null) return `${one.kind}${level}: ${round(one.low)} to ${round(one.high)}${unit}.`;
  return `${one.kind}${level}.`;
}

function label(one: Answer, segment: number): string {
  return one.segments.find((s) => s.number === segment)?.label ?? `segment ${segment}`;
}

function list(texts: string[]): HTMLElement | null {
  return texts.length ? h("ul", null, texts.map((text) => h("li", null, sentence(text)))) : null;
}

function sentence(text: string): string {
  const plain = text.trim();
  return !plain || /[.!?]$/.test(plain) ? plain : `${plain}.`;
}

function hex(colour: [number, number, number]): string {
  return `#${colour.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
