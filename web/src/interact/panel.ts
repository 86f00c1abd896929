// The tab Interact: which structure, which tool, what the answer is worth, and on to the next case.

import type { App } from "../app";
import { fill, h, refill } from "../dom";
import { sure } from "../people";
import type { Tools } from "../view/tools";
import type { Viewer } from "../view/viewer";
import { clicksChart } from "./chart";
import type { Interaction, InteractionState } from "./session";
import type { Wanted } from "./whose";

export function mountInteract(host: HTMLElement, app: App, viewer: Viewer, tools: Tools, interaction: Interaction): { end: () => void; refresh: () => void } {
  const label = h("input", { type: "text", id: "structure", maxlength: 64, autocomplete: "off", value: interaction.store.get().label || (localStorage.getItem("isocenter.label") ?? ""), placeholder: "e.g. left kidney", list: "structures" });
  const known = h("datalist", { id: "structures" });
  const begin = h("button", { class: "primary", type: "submit" }, "Begin");
  // What is marked and not confirmed is given up by the reader alone.
  const givenUp = async (): Promise<boolean> =>
    !interaction.unconfirmed || sure("Not confirmed yet", `“${interaction.store.get().label}” is marked and not confirmed. Its session ends, and that outline is gone.`, "End it and go on", "Stay");
  const leave = h("button", { type: "button", onclick: () => void givenUp().then((yes) => (yes ? interaction.end() : undefined)) }, "End session");
  const state = h("p", { class: "state", role: "status" });
  const taken = h("div", { class: "card warn" });
  const toolbar = h("div", { class: "tools", role: "group", "aria-label": "Pointing tools" });
  const history = h("div", { class: "row" });
  const answer = h("div", { class: "answer" });
  const choices = h("div", { class: "choices", role: "group", "aria-label": "Alternatives" });
  const spread = h("div", { class: "stack" });
  const chart = h("div");

  const form = h("form", {
    class: "row",
    onsubmit: (event: Event) => {
      event.preventDefault();
      const name = label.value.trim();
      if (!name) return label.focus();
      void givenUp().then((yes) => {
        if (!yes) return;
        localStorage.setItem("isocenter.label", name);
        void interaction.start(name);
        // On to the picture: what comes next is pointing.
        viewer.active?.element.focus({ preventScroll: true });
      });
    },
  }, h("label", { for: "structure" }, "Structure"), label, known, begin);
  for (const task of app.store.get().info?.tasks ?? []) known.append(h("option", { value: task.title }));

  for (const id of ["tool.point", "tool.background", "tool.box", "tool.scribble", "tool.lasso", "tool.erase", "tool.lasso-out"]) toolbar.append(app.commands.button(id, SHORT[id]));
  const undo = app.commands.button("interact.undo", "Undo");
  const redo = app.commands.button("interact.redo", "Redo");
  const clear = app.commands.button("interact.clear", "Clear");
  history.append(undo, redo, clear);

  const first = h("input", { type: "number", min: 1, id: "first-slice" });
  const last = h("input", { type: "number", min: 1, id: "last-slice" });
  const go = app.commands.button("interact.propagate", "Propagate");
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Propagation" });
  const count = h("span", { class: "mono" });
  const halt = app.commands.button("interact.stop", "Stop");
  const running = h("div", { class: "row" }, bar, count, halt);
  spread.append(h("div", { class: "row" }, h("label", { for: "first-slice" }, "Slices"), first, h("label", { for: "last-slice" }, "to"), last, go), running);
  const confirm = app.commands.button("interact.confirm", "Confirm", { class: "primary wide" });

  const body = h("div", { class: "stack" }, taken, toolbar, history, answer, choices, spread, confirm);
  fill(host, h("div", { class: "stack" }, form, state, body, h("h3", null, "Clicks per case"), chart, leave));

  const refresh = (): void => {
    const s = interaction.store.get();
    const on = s.phase === "open";
    state.textContent = PHASES[s.phase](s);
    state.className = s.problem || s.phase === "reconnecting" ? "state warn" : "state";
    begin.textContent = s.phase === "off" ? "Begin" : "Begin anew";
    leave.hidden = s.phase === "off";
    body.hidden = s.phase === "off";
    taken.hidden = !s.takenBy;
    if (s.takenBy) refill(taken, h("p", null, `${s.takenBy} works on this image and structure. You can look, not change.`), h("button", { type: "button", "data-keep": "take-over", onclick: () => interaction.takeOver() }, "Take over (they are told)"));
    const ready = interaction.ready;
    for (const button of toolbar.querySelectorAll("button")) {
      button.disabled = !on || Boolean(s.takenBy);
      button.setAttribute("aria-pressed", String(isChosen(button.dataset.command ?? "", tools)));
    }
    undo.disabled = !ready || !s.can_undo;
    redo.disabled = !ready || !s.can_redo;
    clear.disabled = !ready || s.prompts === 0;
    confirm.disabled = !ready || s.busy || !s.outlined || s.confirmed !== "";
    go.disabled = !ready || !s.outlined || (viewer.active?.slices ?? 1) < 2;
    spread.hidden = (viewer.active?.slices ?? 1) < 2;
    running.hidden = !s.progress;
    if (s.progress) {
      bar.max = Math.max(1, s.progress.of);
      bar.value = s.progress.done;
      count.textContent = s.progress.of === 100 ? `${Math.round(s.progress.done)} %` : `${s.progress.done} of ${s.progress.of}`;
      bar.setAttribute("aria-valuetext", count.textContent);
    }
    drawAnswer(answer, s);
    drawChoices(choices, s, interaction, viewer);
  };

  let cases: unknown = null;
  const ends = [
    app.store.subscribe((state, before) => {
      const wanted = state.shared.structure as Wanted | undefined;
      if (wanted && wanted !== before.shared.structure) label.value = wanted.label;
    }),
    interaction.store.subscribe((s) => {
      refresh();
      if (s.cases !== cases) fill(chart, clicksChart((cases = s.cases, s.cases)));
    }),
    viewer.on((what) => {
      if (what !== "image" && what !== "slice") return;
      first.value = "1";
      last.value = first.max = last.max = String(viewer.active?.slices ?? 1);
      refresh();
    }),
  ];
  first.value = "1";
  last.value = first.max = last.max = String(viewer.active?.slices ?? 1);
  fill(chart, clicksChart(interaction.store.get().cases));
  cases = interaction.store.get().cases;
  refresh();
  range.read = () => [Number(first.value) - 1, Number(last.value) - 1];
  return { end: () => ends.forEach((end) => end()), refresh };
}

/** The slices between which to propagate, as the fields say. */
export const range = { read: (): [number, number] => [0, 0] };

const SHORT: Record<string, string> = {
  "tool.point": "+ Point", "tool.background": "− Point", "tool.box": "Box", "tool.scribble": "Scribble", "tool.lasso": "Lasso", "tool.erase": "Erase", "tool.lasso-out": "Erase lasso",
};

function isChosen(id: string, tools: Tools): boolean {
  const name = id.slice(5);
  if (name === "background") return tools.tool === "point" && !tools.positive;
  if (name === "lasso-out") return tools.tool === "lasso" && !tools.positive;
  return tools.tool === name && (tools.positive || name === "erase");
}

const PHASES: Record<InteractionState["phase"], (s: InteractionState) => string> = {
  off: (s) => s.problem || "Name a structure and begin; then point at it in any plane.",
  connecting: () => "Connecting…",
  reconnecting: (s) => `${s.problem ? `${s.problem.replace(/[.!?]*$/, ".")} ` : "The connection is lost. "}Trying again; nothing that you confirmed is lost.`,
  open: (s) => s.problem || (s.busy ? "Working…" : `Marking “${s.label}”.`),
};

function drawAnswer(host: HTMLElement, s: InteractionState): void {
  if (s.confirmed) return fill(host, h("span", { class: "good" }, "Confirmed. Go on with the next series or study; point again to correct it."));
  if (!s.prompts && !s.outlined) return fill(host);
  const parts: string[] = [s.prompts ? `${s.prompts} ${s.prompts === 1 ? "prompt" : "prompts"}` : "proposed from the confirmed cases"];
  if (s.expected_dice !== null) parts.push(`expected Dice ${s.expected_dice.toFixed(2)}`);
  if (s.drawn_ms !== null) parts.push(`drawn after ${s.drawn_ms.toFixed(0)} ms`);
  fill(host, h("span", null, parts.join(" · ")));
}

function drawChoices(host: HTMLElement, s: InteractionState, interaction: Interaction, viewer: Viewer): void {
  const focus = document.activeElement;
  if (focus instanceof HTMLElement && host.contains(focus)) host.dataset.focus = focus.dataset.keep;
  else if (!host.hidden) delete host.dataset.focus;
  host.hidden = s.alternatives.length < 2;
  if (host.hidden) {
    // Between an answer and its alternatives there are none: who chose by keyboard is there again when they come.
    if (s.busy) delete host.dataset.focus;
    preview(viewer, null);
    return fill(host);
  }
  const signature = s.alternatives.map((one) => `${one.number}:${one.expected_dice}`).join() + `|${s.chosen}`;
  if (host.dataset.signature === signature && host.childElementCount) return;
  host.dataset.signature = signature;
  refill(host, h("span", { class: "quiet" }, "More than one answer fits (, and . go through them):"), s.alternatives.map((one) => {
    const dice = one.expected_dice === null ? "" : ` · ${one.expected_dice.toFixed(2)}`;
    const show = () => preview(viewer, one.source);
    const hide = () => preview(viewer, null);
    return h("button", { type: "button", "data-keep": String(one.number), "aria-pressed": s.chosen === one.number, onclick: () => interaction.choose(one.number), onmouseenter: show, onfocus: show, onmouseleave: hide, onblur: hide }, `${one.number + 1}${dice}`);
  }));
  if (document.activeElement === document.body) host.querySelector<HTMLElement>(`[data-keep="${host.dataset.focus}"]`)?.focus({ preventScroll: true });
}

/** Show one alternative in a colour of its own while it is pointed at. */
function preview(viewer: Viewer, source: InteractionState["levels"]): void {
  const others = viewer.layers.filter((layer) => layer.id !== "alternative");
  if (!source && others.length === viewer.layers.length) return;
  viewer.layers = source ? [...others, { id: "alternative", name: "Alternative", kind: "mask", colour: "#ff7ad9", opacity: 0.3, hidden: false, source }] : others;
  viewer.invalidate();
}
