// The server's routes as typed functions. Names and units are those of the API, snake_case included.

export type Vec3 = [number, number, number];
export type Box = [number, number, number, number, number, number];

export interface TaskItem { name: string; title: string; prompts: string[]; [key: string]: unknown }

export interface Info {
  version: string;
  api: string;
  identified: boolean;
  source_kind: string;
  tasks: TaskItem[];
  limits: { sessions?: number; upload_bytes?: number; image_bytes?: number; [key: string]: unknown };
  /** Which parts the server has: "readings", "drafts", "prognosis", ... */
  offers?: string[];
  not_for_clinical_use: string;
}

export type StudyStatus = "new" | "open" | "read" | "signed";

export interface StudyItem {
  id: string;
  patient_key: string;
  study_date: string | null;
  description: string;
  modalities: string[];
  series: number;
  instances: number;
  accession: string | null;
  status: StudyStatus;
  assigned_to: string | null;
  prior: number;
}

export interface ImageItem {
  id: string;
  index: number;
  modality: string;
  description: string;
  quantity: string;
  unit: string;
  /** Planes, rows, columns. */
  shape_zyx: Vec3;
  channels: number;
  spacing_mm: Vec3 | null;
  /** Along y and x, also where the place in the patient is not known. */
  pixel_spacing_mm?: [number, number] | null;
  /** Images of one frame of reference lie in one space; "" where there is none. */
  frame?: string;
  affine_zyx_to_lps_mm: number[][] | null;
  /** Towards what the index grows along z, y and x: "SPL". */
  orientation: string | null;
  /** Of a picture without an affine: where its rows and its columns point to. */
  patient_orientation?: [string, string] | null;
  stack: "space" | "time";
  dark_is_high: boolean;
  windows: { name: string; centre: number; width: number }[];
  low: number;
  high: number;
  pixel: { dtype: "int16" | "uint8" | "uint16" | "float32"; slope: number; intercept: number };
  bytes: number;
  notes: string[];
  too_large: boolean;
}

export interface StudyDetail extends StudyItem {
  images: ImageItem[];
  priors: StudyItem[];
  reports: { date: string | null; title: string; text: string }[];
  /** Series and files that cannot be shown, and why. */
  left_out: { where: string; reason: string }[];
  notes: string[];
}

export interface StudyPage { total: number; items: StudyItem[]; scanning?: boolean }

export interface StudyQuery {
  q?: string;
  modality?: string;
  patient?: string;
  from?: string;
  to?: string;
  status?: string;
  offset?: number;
  limit?: number;
  order?: string;
}

export interface SessionItem { id: string; label: string; reader: string; lease_seconds: number; cases: unknown[] | number }

export interface MaskItem {
  id: string;
  image: string;
  label: string;
  reader: string;
  version: number;
  created: string;
  segments: number;
  expected_dice: number | null;
  clicks: number | null;
}

export interface Job {
  id?: string;
  job?: string;
  state: "queued" | "running" | "done" | "failed" | "stopped";
  stage: string;
  done: number;
  result: unknown;
  problem: Problem | null;
}

/** RFC 9457: what went wrong, in words that may be shown. */
export interface Problem { type?: string; title?: string; status?: number; detail?: string; code?: string; [key: string]: unknown }

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(problem.detail || problem.title || `the server answered ${status}`);
  }
}

export interface RequestOptions {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
}

export interface Me {
  name: string;
  full_name: string;
  role: string;
  csrf: string;
}

export class Api {
  private readonly base = new URL("api/v1/", document.baseURI);
  private csrf = "";

  /** Whether somebody is signed in by an account; else the page has the server's one token, or none yet. */
  get signedIn(): boolean {
    return this.csrf !== "";
  }

  constructor(
    readonly token: () => string,
    readonly reader: () => string,
    private readonly refused: () => void = () => {},
  ) {}

  /** The whole address of a path below /api/v1; addresses that the server gave ("/api/v1/...") are taken as they are. */
  url(path: string): string {
    if (path.startsWith("/")) return new URL(path, document.baseURI).href;
    return new URL(path, this.base).href;
  }

  /** Who is signed in, where the server has accounts; null where it has one token. */
  async me(): Promise<Me | null> {
    if (this.token()) return null;
    const response = await fetch(new URL("access/v1/me", document.baseURI), { headers: { Accept: "application/json" } });
    if (!response.ok) return null;
    const me = (await response.json()) as Me;
    this.csrf = me.csrf;
    return me;
  }

  headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    if (this.token()) headers.Authorization = `Bearer ${this.token()}`;
    else if (this.csrf) headers["X-CSRF-Token"] = this.csrf;
    if (this.reader()) headers["X-Isocenter-Reader"] = this.reader();
    return headers;
  }

  /** A request whose failure is an ApiError with the server's own words. */
  async request(path: string, options: RequestOptions = {}): Promise<Response> {
    const headers = this.headers();
    let body: BodyInit | undefined;
    if (options.body !== undefined) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(options.body);
    }
    let response: Response;
    try {
      response = await fetch(this.url(path), { method: options.method ?? "GET", headers, body, signal: options.signal });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new ApiError(0, { code: "unreachable", title: "The server does not answer", detail: "The server does not answer. Is isocenter serve running?" });
    }
    if (response.ok) return response;
    if (response.status === 401) this.refused();
    const wait = Number(response.headers.get("Retry-After"));
    throw new ApiError(response.status, await problemOf(response), Number.isFinite(wait) && wait > 0 ? wait : null);
  }

  async json<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.request(path, options);
    return (response.status === 204 ? null : await response.json()) as T;
  }

  async bytes(path: string, options: RequestOptions = {}): Promise<ArrayBuffer> {
    return (await this.request(path, options)).arrayBuffer();
  }

  info = () => this.json<Info>("info");

  studies(query: StudyQuery, signal?: AbortSignal): Promise<StudyPage> {
    const search = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== "") search.set(key, String(value));
    return this.json(`studies?${search}`, { signal });
  }

  /** A study with its images; the item of the list is laid flat into it. */
  async study(id: string): Promise<StudyDetail> {
    const detail = await this.json<Omit<StudyDetail, keyof StudyItem> & { study: StudyItem }>(`studies/${encodeURIComponent(id)}`);
    return { ...detail, ...detail.study };
  }

  image = (id: string) => this.json<ImageItem>(`images/${encodeURIComponent(id)}`);
  pixels = (id: string, first: number, count: number, signal?: AbortSignal) =>
    this.bytes(`images/${encodeURIComponent(id)}/pixels?first=${first}&count=${count}`, { signal });
  masks = (image: string) => this.json<MaskItem[]>(`images/${encodeURIComponent(image)}/masks`);
  createSession = (label: string) => this.json<SessionItem>("sessions", { method: "POST", body: { label, reader: this.reader() } });
  endSession = (id: string) => this.json<null>(`sessions/${encodeURIComponent(id)}`, { method: "DELETE" });
  job = (id: string) => this.json<Job>(`jobs/${encodeURIComponent(id)}`);
  stopJob = (id: string) => this.json<null>(`jobs/${encodeURIComponent(id)}/stop`, { method: "POST" });

  socket(session: string): WebSocket {
    const url = new URL(`sessions/${encodeURIComponent(session)}/socket`, this.base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, this.token() ? ["isocenter.v1", `bearer.${this.token()}`] : ["isocenter.v1"]);
    socket.binaryType = "arraybuffer";
    return socket;
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const type = response.headers.get("Content-Type") ?? "";
  if (!type.includes("json")) return { title: `The server answered ${response.status}`, status: response.status };
  const body = (await response.json()) as Problem;
  return typeof body.detail === "string" || body.title ? body : { ...body, detail: JSON.stringify(body.detail ?? body) };
}
