// One person's interaction with the server: prompts go out, changed boxes come back, a lost connection is taken up again.

import { ApiError, type Api, type Box, type ImageItem, type SessionItem, type Vec3 } from "../api";
import { errorText } from "../app";
import { Store } from "../store";
import { toWorld, type Grid } from "../view/grid";
import { boxVoxels, LevelBox, unpackRuns } from "../view/levels";
import type { Gesture } from "../view/tools";
import type { Mark } from "../view/viewer";
import { pack, unpack, type Message } from "./wire";

export interface Alternative { number: number; expected_dice: number | null; source: LevelBox }
export interface Case { image?: string; clicks: number; seconds?: number; first_dice?: number | null }
export interface Act { type: string; seq: number; [key: string]: unknown }

export interface InteractionState {
  phase: "off" | "connecting" | "open" | "reconnecting";
  label: string;
  session: string;
  levels: LevelBox | null;
  expected_dice: number | null;
  prompts: number;
  can_undo: boolean;
  can_redo: boolean;
  busy: boolean;
  alternatives: Alternative[];
  chosen: number | null;
  progress: { done: number; of: number; what: string } | null;
  /** Whether there is an outline, also one that was proposed without a prompt. */
  outlined: boolean;
  takenBy: string;
  lease: number;
  cases: Case[];
  /** From the hand's release to the frame in which the answer stood, and what the server says of its own part. */
  drawn_ms: number | null;
  server_ms: Record<string, number>;
  confirmed: string;
  problem: string;
}

/** Close code of the server: the same session was connected again elsewhere. */
const REPLACED = 4001;
/** Close codes after which the same message would be refused again: not framed as one, too long. */
const NOT_TAKEN = [1007, 1009];

/** Where this tab keeps its session, so that loading the page again loses nothing. */
const KEPT = "isocenter.session";

interface Kept { session: string; label: string; reader: string; seq: number; acts: [string, Act[]][]; places: [number, Vec3][] }

const CLEAN = { expected_dice: null, prompts: 0, can_undo: false, can_redo: false, busy: false, alternatives: [], chosen: null, progress: null, outlined: false, drawn_ms: null, server_ms: {}, confirmed: "" };

let only: Interaction | null = null;

/** The session of this tab: it goes on from study to study, for what was confirmed in one helps with the next. */
export function interactionOf(api: Api, notify: (text: string, kind?: "info" | "error") => void): Interaction {
  only ??= new Interaction(api, notify);
  return only;
}

export class Interaction {
  readonly store = new Store<InteractionState>({
    phase: "off", label: "", session: "", levels: null, takenBy: "", lease: 0, cases: [], problem: "", ...CLEAN,
  });
  private image: ImageItem | null = null;
  private grid: Grid | null = null;
  private socket: WebSocket | null = null;
  private acts = new Map<string, Act[]>();
  /** Where points were put, in indices, so that they can be drawn. */
  private readonly places = new Map<number, Vec3>();
  private seq = 0;
  /** By which number the image was opened or replayed. */
  private opening = -1;
  /** Counts beginnings and ends: what was asked for an earlier session is not taken for this one. */
  private turn = 0;
  private sent = new Map<number, number>();
  private attempt = 0;
  private timer = 0;
  private beat = 0;
  private wanted = false;
  /** The image that the server has said it opened: what it says before that is about another one. */
  private at = "";
  private version: unknown = null;

  /** Draw now that the levels have changed; `after` is called when the frame stands. Set by the study in view. */
  draw: (levels: LevelBox, after: () => void) => void = () => {};

  constructor(
    private readonly api: Api,
    private readonly notify: (text: string, kind?: "info" | "error") => void,
  ) {}

  /** Take up what this browser tab had begun before it was loaded again. */
  resume(): void {
    const text = sessionStorage.getItem(KEPT);
    if (!text || this.wanted) return;
    const kept = JSON.parse(text) as Kept;
    if (kept.reader !== this.api.reader()) {
      // A session confirms in the name that it was begun by: whoever works now begins one of their own.
      sessionStorage.removeItem(KEPT);
      this.notify(`The session of ${kept.reader || "somebody else"} in this tab has ended; what was not confirmed is gone.`);
      void this.api.endSession(kept.session).catch(() => undefined); // with accounts it is not ours to end: its lease ends it
      return;
    }
    this.wanted = true;
    this.seq = kept.seq;
    this.acts = new Map(kept.acts);
    for (const [seq, place] of kept.places) this.places.set(seq, place);
    this.store.set({ phase: "connecting", label: kept.label, session: kept.session });
    // Whoever takes it up only to end it does not ask for it first.
    queueMicrotask(() => void this.reconnect());
  }

  private keep(): void {
    const { session, label } = this.store.get();
    if (!session) return;
    const kept: Kept = { session, label, reader: this.api.reader(), seq: this.seq, acts: [...this.acts], places: [...this.places] };
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(kept));
    } catch {
      // More than the browser keeps for a tab: loading the page again would lose it, so it is not half kept.
      sessionStorage.removeItem(KEPT);
    }
  }

  get ready(): boolean {
    const { phase, takenBy, progress } = this.store.get();
    return phase === "open" && !takenBy && !progress;
  }

  /** Begin to mark a structure. */
  async start(label: string): Promise<void> {
    if (this.wanted) await this.end();
    this.wanted = true;
    this.turn++;
    this.acts.clear();
    this.store.set({ phase: "connecting", label, problem: "", cases: [], takenBy: "" });
    await this.open();
  }

  private async open(): Promise<void> {
    const { turn } = this;
    try {
      const { label } = this.store.get();
      const session = await this.api.createSession(label);
      if (turn !== this.turn) return void this.api.endSession(session.id).catch(() => undefined);
      if (!this.isOurs(session)) return;
      this.store.set({ session: session.id, lease: session.lease_seconds, cases: casesOf(session.cases) });
      this.keep();
      this.connect();
    } catch (error) {
      if (turn !== this.turn) return;
      const full = error instanceof ApiError && error.status === 503;
      this.store.set({ problem: errorText(error), phase: full || !(error instanceof ApiError) || error.status === 0 ? "reconnecting" : "off" });
      if (error instanceof ApiError && error.status !== 0 && !full) {
        this.wanted = false;
        return;
      }
      this.later(() => void this.open(), error instanceof ApiError ? error.retryAfterSeconds : null);
    }
  }

  /** Leave: the server may give the place to somebody else. Confirmed masks stay. */
  async end(): Promise<void> {
    const { session } = this.store.get();
    this.off("");
    if (session) await this.api.endSession(session).catch((error: unknown) => this.notify(errorText(error), "error"));
  }

  private off(problem: string): void {
    this.wanted = false;
    this.turn++;
    clearTimeout(this.timer);
    clearInterval(this.beat);
    sessionStorage.removeItem(KEPT);
    this.acts.clear();
    this.sent.clear();
    this.socket?.close(1000);
    this.socket = null;
    // Versions are counted for each structure: those of this one say nothing of the next.
    this.version = null;
    this.store.set({ phase: "off", label: "", session: "", levels: null, takenBy: "", problem, ...CLEAN });
  }

  /** Whether a session is of who is signed in; another tab may have signed in somebody else. */
  private isOurs(session: SessionItem): boolean {
    if (!this.api.signedIn || session.reader === this.api.reader()) return true;
    this.off(`The server knows you as ${session.reader || "somebody else"} now: load the page again.`);
    return false;
  }

  /** Whether something is marked that would be lost if the session ended. */
  get unconfirmed(): boolean {
    const done = this.store.get().confirmed ? this.image?.id : "";
    return [...this.acts].some(([image, acts]) => heldOf(acts).length > 0 && image !== done);
  }

  /** Work on this image from now on; what was begun on another one waits there. */
  setImage(image: ImageItem | null, grid: Grid | null): void {
    if (this.image?.id === image?.id) return;
    // What was confirmed and not changed since is done: on return the image is opened as any other.
    if (this.image && this.store.get().confirmed) this.acts.delete(this.image.id);
    this.keep();
    this.image = image;
    this.grid = grid;
    this.version = null;
    this.at = "";
    this.sent.clear();
    this.store.set({ levels: null, takenBy: "", ...CLEAN });
    if (this.socket?.readyState === WebSocket.OPEN) this.openImage();
  }

  private connect(): void {
    clearTimeout(this.timer);
    clearInterval(this.beat);
    const socket = this.api.socket(this.store.get().session);
    this.socket = socket;
    socket.addEventListener("open", () => {
      if (this.socket !== socket) return;
      this.store.set({ problem: "" });
      this.openImage();
      this.beat = window.setInterval(() => this.send({ type: "ping" }), Math.max(5, Math.min(20, this.store.get().lease / 3)) * 1000);
    });
    socket.addEventListener("message", (event: MessageEvent<ArrayBuffer>) => {
      if (this.socket === socket) this.receive(event.data);
    });
    socket.addEventListener("close", (event) => {
      if (this.socket !== socket || !this.wanted) return;
      clearInterval(this.beat);
      this.socket = null;
      // Not taken up again: two windows would throw each other out for ever.
      if (event.code === REPLACED) return this.off("This session goes on in another window.");
      if (NOT_TAKEN.includes(event.code)) this.leaveOut();
      this.sent.clear();
      this.store.set({ phase: "reconnecting", busy: false, progress: null });
      this.later(() => void this.reconnect(), null);
    });
  }

  /** Do not say again what the server does not take. */
  private leaveOut(): void {
    const { image } = this;
    if (!image || !this.acts.get(image.id)?.length) return;
    if (this.at === image.id) {
      this.acts.set(image.id, this.acts.get(image.id)!.filter((act) => !this.sent.has(act.seq)));
      this.notify("What was drawn last is too long for the server and was left out: draw it in parts.", "error");
    } else {
      this.acts.delete(image.id);
      this.notify("What was marked here is too long to be told to the server again: the image is begun anew.", "error");
    }
    this.keep();
  }

  private later(act: () => void, seconds: number | null): void {
    clearTimeout(this.timer);
    const wait = seconds !== null ? seconds * 1000 : Math.min(10000, 400 * 2 ** this.attempt);
    this.attempt++;
    this.timer = window.setTimeout(act, wait);
  }

  /** The same session where the server still has it, otherwise a new one of the same name; the acts are sent again. */
  private async reconnect(): Promise<void> {
    if (!this.wanted) return;
    const { turn } = this;
    try {
      const session = await this.api.json<SessionItem>(`sessions/${encodeURIComponent(this.store.get().session)}`);
      if (turn !== this.turn || !this.isOurs(session)) return;
      this.store.set({ cases: casesOf(session.cases), lease: session.lease_seconds });
      this.connect();
    } catch (error) {
      if (turn !== this.turn) return;
      if (error instanceof ApiError && error.problem.code === "another_reader") this.off(errorText(error));
      else if (error instanceof ApiError && (error.status === 404 || error.status === 410)) await this.open();
      else {
        this.store.set({ problem: errorText(error) });
        this.later(() => void this.reconnect(), error instanceof ApiError ? error.retryAfterSeconds : null);
      }
    }
  }

  /** Go on with what was marked here before; what is shown is what the server then holds. */
  takeOver(): void {
    this.openImage(true);
  }

  private openImage(takeOver = false): void {
    this.at = "";
    this.sent.clear();
    if (!this.image) {
      this.attempt = 0;
      this.store.set({ phase: "open" });
      return;
    }
    const acts = this.acts.get(this.image.id) ?? [];
    this.store.set({ levels: LevelBox.empty(this.image.shape_zyx), takenBy: "", ...CLEAN, busy: true });
    this.opening = ++this.seq;
    const about = { seq: this.opening, image: this.image.id, ...(takeOver ? { take_over: true } : {}) };
    this.send(acts.length ? { type: "replay", ...about, acts } : { type: "open", ...about });
  }

  private send(header: object): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(pack(header));
    return true;
  }

  /** Say an act to the server; false where it can't be said now. */
  private act(act: { type: string; [key: string]: unknown }, remember = true): boolean {
    if (!this.ready || !this.image) return false;
    const whole: Act = { seq: ++this.seq, ...act };
    const start = performance.now();
    if (!this.send(whole)) return false;
    this.sent.set(whole.seq, start);
    if (remember) {
      const list = this.acts.get(this.image.id) ?? [];
      list.push(whole);
      this.acts.set(this.image.id, list);
      this.keep();
    }
    this.store.set({ busy: true, problem: "", confirmed: "" });
    return true;
  }

  // ---- what a person does --------------------------------------------------------------------------------------------

  prompt(gesture: Gesture): void {
    const place = this.grid?.affine
      ? { points_lps_mm: gesture.points.map((point) => short(toWorld(this.grid!, point)!)) }
      : { points_index_zyx: gesture.points.map(short) };
    const seq = this.seq + 1;
    if (gesture.kind === "point") this.places.set(seq, gesture.points[0]);
    if (this.act({ type: "prompt", kind: gesture.kind, positive: gesture.positive, ...place })) return;
    // What could not be said leaves no mark to the act that gets its number.
    this.places.delete(seq);
    this.notify("What was drawn was not taken: the server is not ready for it.", "error");
  }

  /** Points that hold now: what was taken back or cleared is not among them. */
  get marks(): Mark[] {
    return heldOf(this.acts.get(this.image?.id ?? "") ?? []).flatMap((act) => {
      const index = this.places.get(act.seq);
      return index ? [{ index, kind: "point", positive: Boolean(act.positive) }] : [];
    });
  }

  choose(number: number): void {
    this.store.set({ chosen: number });
    this.act({ type: "choose", number });
  }

  /** Both also while an answer is still on its way: the server does one after the other. */
  undo = () => (this.store.get().can_undo || this.sent.size > 0) && this.act({ type: "undo" });
  redo = () => (this.store.get().can_redo || this.sent.size > 0) && this.act({ type: "redo" });
  clear = () => this.store.get().prompts > 0 && this.act({ type: "clear" });

  propagate(axis: number, first: number, last: number): void {
    if (!this.ready) return;
    if (!this.act({ type: "propagate", axis, first, last })) return;
    this.store.set({ progress: { done: 0, of: 100, what: "" } });
  }

  stop = () => void this.send({ type: "stop" });

  confirm(): void {
    if (!this.ready || !this.store.get().outlined || this.store.get().confirmed) return;
    // What is confirmed is what is on the screen, so it is not confirmed while something else may be on its way.
    if (this.sent.size > 0) return this.notify("An answer is still on its way: look at it, then confirm.");
    this.act({ type: "confirm", ...(this.version === null ? {} : { version: this.version }) }, false);
  }

  // ---- what the server says ------------------------------------------------------------------------------------------

  private receive(buffer: ArrayBuffer): void {
    let message: Message;
    try {
      message = unpack(buffer);
      this.take(message);
    } catch (error) {
      this.store.set({ problem: `A message of the server could not be read: ${errorText(error)}`, busy: false });
    }
  }

  private take({ header, payload }: Message): void {
    const known = this.version;
    if ("version" in header && (header.image ?? this.image?.id) === this.image?.id) this.version = header.version;
    if (header.type === "opened") this.opened(header, known);
    else if (header.type === "delta") this.delta(header, payload);
    else if (header.type === "alternative") this.alternative(header, payload);
    else if (header.type === "progress") this.store.set({ progress: { done: Number(header.done), of: Number(header.of), what: String(header.what ?? "") } });
    else if (header.type === "confirmed") this.confirmed(header);
    else if (header.type === "problem") this.refused(header);
    else if (header.type === "lease") this.store.set({ lease: Number(header.seconds) });
    else if (header.type === "taken" && (header.image ?? this.image?.id) === this.image?.id) this.store.set({ takenBy: String(header.by || "somebody"), busy: false, progress: null });
  }

  private opened(header: Message["header"], known: unknown): void {
    if (!this.image || header.image !== this.image.id) return;
    this.at = this.image.id;
    this.attempt = 0;
    if (known !== null && Number(header.version) > Number(known)) {
      this.notify(`Version ${header.version} of this was confirmed meanwhile: see the masks of this series. What you confirm is added to it as another.`);
    }
    const cases = header.cases === undefined ? {} : { cases: casesOf(header.cases) };
    this.store.set({ phase: "open", takenBy: header.taken_by ? String(header.taken_by) : "", ...cases });
  }

  private delta(header: Message["header"], payload: Uint8Array): void {
    const { levels } = this.store.get();
    if (!this.image || !levels || this.at !== this.image.id) return;
    const box = header.box_zyx as Box;
    const next = levels.replaced(box, unpackRuns(payload, boxVoxels(box)));
    const start = this.sent.get(Number(header.seq));
    this.sent.delete(Number(header.seq));
    this.store.set({
      levels: next,
      expected_dice: numberOr(header.expected_dice),
      prompts: Number(header.prompts ?? 0),
      outlined: next.some(2),
      can_undo: Boolean(header.can_undo),
      can_redo: Boolean(header.can_redo),
      alternatives: [],
      chosen: numberOr(header.chosen),
      server_ms: (header.milliseconds ?? {}) as Record<string, number>,
      busy: this.sent.size > 0,
      progress: null,
    });
    this.draw(next, () => {
      if (start === undefined) return;
      const end = performance.now();
      performance.measure("isocenter.click-to-drawn", { start, end, detail: this.store.get().server_ms });
      this.store.set({ drawn_ms: end - start });
    });
  }

  private alternative(header: Message["header"], payload: Uint8Array): void {
    if (!this.image || this.at !== this.image.id) return;
    const box = header.box_zyx as Box;
    const source = new LevelBox(this.image.shape_zyx, box, unpackRuns(payload, boxVoxels(box)));
    const one = { number: Number(header.number), expected_dice: numberOr(header.expected_dice), source };
    const others = this.store.get().alternatives.filter((other) => other.number !== one.number);
    this.store.set({ alternatives: [...others, one].sort((a, b) => a.number - b.number) });
  }

  private confirmed(header: Message["header"]): void {
    const image = String(header.image ?? this.image?.id ?? "");
    const seq = Number(header.seq);
    this.sent.delete(seq);
    this.store.set({ cases: casesOf(header.cases) });
    this.notify("Confirmed: it now helps with the next case.");
    // The image stays open: what was done since is a correction, and not confirmed yet.
    const corrected = (this.acts.get(image) ?? []).some((act) => act.seq > seq);
    if (image === this.image?.id) this.store.set({ confirmed: corrected ? "" : String(header.mask ?? ""), busy: this.sent.size > 0 });
    else if (!corrected) this.acts.delete(image);
    this.keep();
  }

  private refused(header: Message["header"]): void {
    const seq = typeof header.seq === "number" ? header.seq : Number.NaN;
    this.sent.delete(seq);
    const detail = String(header.detail || header.code || "refused");
    if (this.image && seq === this.opening && header.code === "config" && this.acts.get(this.image.id)?.length) {
      // Said again it would be refused again.
      this.acts.delete(this.image.id);
      this.keep();
      this.notify(`What was marked here can't be done again (${detail}): the image is begun anew.`, "error");
      return this.openImage();
    }
    // What was refused did not happen: it is not to be told again after a reconnection.
    for (const [image, list] of this.acts) this.acts.set(image, list.filter((act) => act.seq !== seq));
    this.keep();
    if (header.code === "stopped") this.notify("Stopped; nothing was changed.");
    this.store.set({ problem: header.code === "stopped" ? "" : detail, busy: this.sent.size > 0, progress: null });
    if (seq === this.opening) this.store.set({ phase: "open" });
  }
}

/** Prompts and other acts that hold now, without those that were taken back or cleared. */
function heldOf(acts: Act[]): Act[] {
  let held: Act[] = [];
  const undone: Act[][] = [];
  const before: Act[][] = [];
  for (const act of acts) {
    if (act.type === "undo") {
      undone.push(held);
      held = before.pop() ?? [];
      continue;
    }
    before.push(held);
    if (act.type === "redo") held = undone.pop() ?? held;
    else {
      undone.length = 0;
      held = act.type === "clear" ? [] : [...held, act];
    }
  }
  return held;
}

/** To a thousandth: a mask's prompts are kept no finer, and long scribbles are told again and again. */
function short([a, b, c]: Vec3): Vec3 {
  return [a, b, c].map((value) => Math.round(value * 1000) / 1000) as Vec3;
}

/** One case an image: a correction that was confirmed later stands in the place of what it corrects. */
function casesOf(value: unknown): Case[] {
  if (!Array.isArray(value)) return [];
  const cases = new Map<string, Case>();
  (value as Case[]).forEach((one, at) => cases.set(one.image ?? String(at), one));
  return [...cases.values()];
}

function numberOr(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
