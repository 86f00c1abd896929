// Questions about the study as a chat: every claim with the evidence that it rests on, refusals as visible as answers.

import { ApiError } from "../api";
import { errorText, type App } from "../app";
import { fill, h } from "../dom";
import { canJump, chips, jump } from "../reports/places";
import type { AskAnswer } from "../reports/types";
import "../styles/reports.css";

const OFFERS = ["What was found?", "What was not examined?", "How sure is it?", "Where is it?", "Why?"];

export function mount(host: HTMLElement, app: App): () => void {
  let study = "";
  let conversation: string | null = null;
  let busy = false;
  /** Counts conversations: an answer of one that was left does not go on in the next. */
  let turn = 0;
  const talk = h("ol", { class: "talk" });
  const log = h("div", { role: "log", "aria-label": "Questions and answers", "aria-live": "polite" }, talk);
  const input = h("input", { name: "question", maxlength: 2000, required: true, autocomplete: "off", "aria-label": "Question about this study, in English", class: "grow" });
  const send = h("button", { class: "primary", type: "submit" }, "Ask");
  const form = h("form", { class: "row question", onsubmit: (event: Event) => {
    event.preventDefault();
    void ask(input.value);
  } }, input, send);
  const offers = h("div", { class: "row", role: "group", "aria-label": "Questions to begin with" }, OFFERS.map((text) =>
    h("button", { type: "button", class: "chip", onclick: () => void ask(text) }, text)));
  const again = h("button", { type: "button", class: "plain quiet", onclick: () => begin() }, "Begin anew");
  // Escape leaves the field, so that the keys of the page work again.
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") host.focus();
  });
  fill(host,
    h("p", { class: "quiet" }, "Answers come from the reading of this study alone, sentence by sentence on evidence. What can't be answered is refused."),
    log, offers, form, again);

  function begin(): void {
    turn++;
    conversation = null;
    fill(talk);
    input.value = "";
  }

  async function ask(question: string): Promise<void> {
    if (busy || !question.trim()) return;
    busy = true;
    send.disabled = true;
    const told = h("li", { class: "told quiet" }, "…");
    talk.append(h("li", { class: "asked" }, h("span", { class: "hidden-text" }, "You asked: "), question), told);
    told.scrollIntoView({ block: "nearest" });
    const asked = turn;
    try {
      const answer = await send_(question, asked);
      if (asked !== turn) return; // another conversation, or that of another patient, has begun
      conversation = answer.conversation;
      told.replaceWith(answered(app, answer));
      if (input.value === question) input.value = "";
    } catch (error) {
      if (asked !== turn) return;
      told.className = "told refused";
      told.setAttribute("role", "alert");
      fill(told, errorText(error));
      if (error instanceof ApiError && error.problem.code === "session_expired") conversation = null;
      if (error instanceof ApiError && error.problem.code === "not_read") {
        told.append(" ", h("button", { type: "button", onclick: () => app.store.set({ tab: "findings" }) }, "To the readings"));
      }
    } finally {
      busy = false;
      send.disabled = false;
      talk.lastElementChild?.scrollIntoView({ block: "nearest" });
      // Who meanwhile works elsewhere by keys does not type them into a question.
      if (document.activeElement === document.body || host.contains(document.activeElement)) input.focus();
    }
  }

  async function send_(question: string, asked: number): Promise<AskAnswer> {
    const path = `studies/${study}/ask`;
    try {
      return await app.api.json<AskAnswer>(path, { method: "POST", body: { question, conversation } });
    } catch (error) {
      // A conversation that is over (the server was started again) begins anew, and says so.
      if (!(error instanceof ApiError) || error.problem.code !== "session_expired" || conversation === null || asked !== turn) throw error;
      app.notify("The conversation was over: a new one has begun, which knows nothing of what was asked before.");
      return await app.api.json<AskAnswer>(path, { method: "POST", body: { question, conversation: null } });
    }
  }

  const ends = [
    app.store.watch(["study"], (state) => {
      if (state.study && state.study.id !== study) {
        study = state.study.id;
        begin();
      }
    }),
    app.commands.register({
      id: "ask.focus", label: "Ask a question", group: "Ask", keys: ["alt+q"],
      run: () => {
        app.store.set({ tab: "ask" });
        input.focus();
      },
    }),
  ];
  return () => ends.forEach((end) => end());
}

function answered(app: App, answer: AskAnswer): HTMLElement {
  const refused = answer.outcome === "refused";
  const item = h("li", { class: `told${answer.outcome === "answered" ? "" : " refused"}`, "data-outcome": answer.outcome });
  if (answer.outcome !== "answered") {
    item.append(h("p", { class: "warn" }, refused ? "Refused" : answer.outcome === "not examined" ? "Not examined" : "Looked for, and not found"));
  }
  for (const one of answer.answer) {
    const place = one.evidence.find(canJump);
    const line = h("p", { class: one.kind === "claim" ? null : "quiet" });
    line.append(place
      ? h("button", { type: "button", class: "plain jump", "data-jump": "yes", "aria-label": `${one.text} Show where.`, onclick: () => jump(app, place) }, one.text)
      : one.text);
    if (one.kind === "earlier") line.append(" (of the earlier study)");
    if (one.evidence.length) line.append(" ", chips(app, one.evidence));
    item.append(line);
  }
  for (const remark of answer.remarks) item.append(h("p", { class: "quiet" }, remark));
  const tools = answer.calls.map((call) => `${call.tool}(${Object.entries(call.arguments).map(([k, v]) => `${k}: ${String(v)}`).join(", ")})`);
  if (tools.length) {
    item.append(h("details", null, h("summary", { class: "quiet" }, `By ${answer.by}`), h("p", { class: "mono quiet" }, tools.join("; "))));
  }
  return item;
}
