// What configured models say of this patient's time, and of another treatment; of whom nothing can be said, and why.

import { errorText, type App } from "../app";
import { fill, h } from "../dom";
import { curveChart, effectChart, round, type Amount } from "../reports/charts";
import type { Outlook } from "../reports/types";
import "../styles/reports.css";

interface Prognosis {
  risk: number; low: number; high: number; level: number; neighbours: number; imputed: string[]; notes: string[];
  drivers: { covariate: string; adds: number; exact: boolean }[];
}
interface Treatment {
  verdict: string; sentences: string[]; imputed: string[]; effect: Amount | null; untreated: Amount | null; treated: Amount | null;
}

export function mount(host: HTMLElement, app: App): () => void {
  let study = "";
  const prognosis = h("section", { "aria-labelledby": "prognosis-title" });
  const treatment = h("section", { "aria-labelledby": "treatment-title" });
  fill(host, prognosis, treatment);
  let asked: AbortController | null = null;

  async function load(place: HTMLElement, kind: "prognosis" | "treatment", title: string, draw: (one: Outlook) => (Node | null)[]): Promise<void> {
    const head = h("h2", { id: `${kind}-title` }, title);
    fill(place, head, h("p", { class: "quiet", role: "status" }, kind === "treatment" ? "Asked; where it must learn first, this takes a while …" : "Asked …"));
    const signal = asked!.signal;
    if (!app.store.get().info?.offers?.includes(kind)) {
      fill(place, head, h("p", { class: "quiet" }, `Not configured: start the server with --${kind} FOLDER --clinical TABLE.`));
      return;
    }
    try {
      const told = await app.api.json<Outlook>(`studies/${study}/${kind}`, { signal });
      if (signal.aborted) return;
      fill(place, head,
        h("p", { class: "mark" }, told.mark),
        told.synthetic ? h("p", { class: "warn" }, "The people behind this are invented.") : null,
        told.abstained === null ? null : h("div", { class: "answer abstained", role: "status" },
          h("header", null, h("strong", null, "Nothing is said of this patient"), h("span", { class: "tag warn" }, "abstained")), h("p", null, sentence(told.abstained))),
        ...draw(told),
      );
    } catch (error) {
      if (signal.aborted) return;
      fill(place, head, h("p", { class: "bad", role: "alert" }, errorText(error)));
    }
  }

  const end = app.store.watch(["study"], (state) => {
    if (!state.study || state.study.id === study) return;
    study = state.study.id;
    asked?.abort();
    asked = new AbortController();
    void load(prognosis, "prognosis", "Prognosis", drawPrognosis);
    void load(treatment, "treatment", "Treatment", drawTreatment);
  });
  return () => {
    end();
    asked?.abort();
  };
}

function drawPrognosis(told: Outlook): (Node | null)[] {
  const facts = told.facts as { event?: string; horizon_days?: number; promise?: string; patients?: number; events?: number; learner?: string; figures?: { name: string; of: string; value: number; low: number | null; high: number | null }[]; notes?: string[] };
  const own = told.document as unknown as Prognosis | null;
  const out: (Node | null)[] = [];
  if (told.abstained === null && own) {
    out.push(
      h("p", null, h("strong", null, `Chance of ${facts.event} by day ${round(facts.horizon_days ?? 0)}: ${round(100 * own.risk)} %`),
        ` (band ${round(100 * own.low)} to ${round(100 * own.high)} %, asked at ${round(100 * own.level)} %)`),
      curveChart(told.curves, facts.horizon_days ?? null, String(facts.event)),
      h("h3", null, "What drove it"),
      drivers(own.drivers),
      list(own.imputed.map((name) => `${name} is not known of this patient and was filled in.`)),
      list(own.notes),
    );
  }
  out.push(h("details", null, h("summary", null, "The model, and what it promises"),
    h("p", null, facts.promise ?? ""),
    h("p", { class: "quiet" }, `Learnt by ${facts.learner ?? "?"} from ${facts.patients ?? "?"} patients, ${facts.events ?? "?"} with the event.`),
    list((facts.figures ?? []).map((one) => `${one.name}${one.of ? `, ${one.of}` : ""}: ${one.value.toFixed(3)}${one.low === null || one.high === null ? "" : ` (${one.low.toFixed(3)} to ${one.high.toFixed(3)})`}`)),
    list(facts.notes ?? []),
  ));
  return out;
}

function drivers(all: Prognosis["drivers"]): HTMLElement {
  const most = Math.max(1e-9, ...all.map((one) => Math.abs(one.adds)));
  return h("table", { class: "values" },
    h("caption", { class: "hidden-text" }, "What each covariate adds to the logarithm of the hazard"),
    h("tbody", null, all.map((one) => h("tr", null,
      h("th", { scope: "row" }, one.covariate),
      h("td", null, h("span", { "aria-hidden": "true", class: one.adds > 0 ? "warn" : "good" }, "█".repeat(Math.max(1, Math.round((8 * Math.abs(one.adds)) / most))))),
      h("td", null, `${one.adds > 0 ? "sooner" : "later"} ${one.adds > 0 ? "+" : "−"}${round(Math.abs(one.adds))}`),
    ))));
}

function drawTreatment(told: Outlook): (Node | null)[] {
  const facts = told.facts as { claim?: string; treatment?: string; comparator?: string; horizon_days?: number | null; average?: Amount; words?: string; unit?: string; chance?: boolean; bound?: string; supported?: number; people?: number; nothing_is_said_of?: string[]; refutations?: { name: string; passed: boolean; words: string }[]; notes?: string[] };
  const own = told.document as unknown as Treatment | null;
  const scale = facts.chance ? 100 : 1;
  const unit = facts.chance ? "" : facts.unit ?? "";
  const out: (Node | null)[] = [];
  if (own?.effect) {
    out.push(
      h("p", null, h("strong", null, own.verdict.slice(0, 1).toUpperCase() + own.verdict.slice(1))),
      h("p", { class: "quiet" }, `Difference, ${facts.treatment} less ${facts.comparator}${facts.chance ? ", in points of 100" : ""}:`),
      effectChart([
        { name: "This patient", amount: own.effect, scale, unit },
        ...(facts.average ? [{ name: "On average", amount: facts.average, scale, unit }] : []),
      ]),
      list(own.sentences),
    );
  }
  if (facts.claim) {
    out.push(
      h("p", { class: "quiet" }, `From an analysis that may call this an ${facts.claim}, not more.`),
      h("h3", null, "Of whom nothing can be said"),
      h("p", null, `Something can be said of ${facts.supported} of ${facts.people} people.`),
      list(facts.nothing_is_said_of ?? []),
      h("details", null, h("summary", null, "Attempts to refute it"),
        list((facts.refutations ?? []).map((one) => `${one.passed ? "Withstood" : "Failed"}: ${one.words || one.name}`)),
        h("p", null, facts.bound ?? ""), list(facts.notes ?? [])),
    );
  }
  return out;
}

function list(texts: string[]): HTMLElement | null {
  return texts.length ? h("ul", null, texts.map((text) => h("li", null, sentence(text)))) : null;
}

function sentence(text: string): string {
  const plain = text.trim();
  const begun = plain.slice(0, 1).toUpperCase() + plain.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
