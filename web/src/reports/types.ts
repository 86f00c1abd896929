// What the routes of reports, questions and outlooks answer (viewer/report_models.py), and of readings what is shown.

import type { Box, Vec3 } from "../api";

export interface Place {
  kind: "segment" | "map" | "probability";
  evidence: string;
  image: string | null;
  image_index: number;
  label: string;
  point_lps_mm: Vec3 | null;
  index_zyx: Vec3 | null;
  box_zyx: Box | null;
  mask: { reading: string; prediction: number; segment: number; file: string } | null;
  map: { reading: string; file: string } | null;
  picture: string | null;
}

export type SectionName = "indication" | "technique" | "comparison" | "findings" | "impression" | "limits";

export interface Sentence {
  id: string;
  text: string;
  verdict: "held" | "edited" | "given" | "withheld";
  reason: string;
  claims: string[];
  evidence: Place[];
}

export interface Section { name: SectionName; title: string; sentences: Sentence[] }
export interface Untold { claim: string; section: SectionName; text: string }
export interface Part { exam: string; of: string; sections: Section[]; untold: Untold[] }
export interface SignedFile { form: "sr" | "fhir" | "pdf"; name: string; url: string; sha256: string; size_bytes: number }

export interface Draft {
  id: string;
  study: string;
  reading: string;
  version: number;
  language: string;
  created: string;
  reader: string;
  parts: Part[];
  limits: string[];
  withheld: number;
  amends: number | null;
  signed: { by: string; at: string; version: number; files: SignedFile[]; not_written: { form: string; why: string }[] } | null;
  mark: string;
}

export interface EditedSentence { id: string | null; section: SectionName; text: string; part: number }

export interface AskAnswer {
  conversation: string;
  outcome: "answered" | "not found" | "not examined" | "refused";
  refused: string | null;
  answer: { text: string; kind: "claim" | "earlier" | "note" | "limit"; evidence: Place[] }[];
  calls: { tool: string; arguments: Record<string, unknown> }[];
  by: string;
  remarks: string[];
  withheld: number;
}

export interface Curve { name: string; days: number[]; percent: number[]; low_percent: number[]; high_percent: number[] }

export interface Outlook {
  kind: "prognosis" | "treatment";
  abstained: string | null;
  document: Record<string, unknown> | null;
  curves: Curve[];
  facts: Record<string, unknown>;
  matched_by: string | null;
  synthetic: boolean;
  mark: string;
}

interface Code { value: string; scheme: string; meaning: string }

export interface Uncertainty {
  kind: string;
  description: string;
  low: number | null;
  high: number | null;
  level: number | null;
  members: Code[];
  segment: number | null;
  unit: Code | null;
  about: Code | null;
}

export interface Answer {
  task: string;
  title: string;
  image: number;
  abstained: string | null;
  intended_use: string;
  not_for: string;
  uncertainty: Uncertainty | null;
  further: Uncertainty[];
  likeness: { score: number; p_value: number; refused_share: number; description: string } | null;
  model: { name: string; version: string; weights_sha256: string } | null;
  segments: { number: number; label: string; colour: [number, number, number]; laterality: Code | null }[];
  measurements: { name: Code; derivation: Code | null; value: number; unit: Code; segment: number | null }[];
  evidence: { kind: string; about: string; text: string; file: string; numbers: Record<string, number> }[];
  notes: string[];
}

export interface Reading {
  reading: string;
  created: string;
  images: { index: number; modality: string; body_part: string; quality: { check: string; status: string; detail: string }[] }[];
  predictions: Answer[];
  left_out: { where: string; reason: string; kind: string }[];
  not_done: { what: string; why: string }[];
  comparison: { task: string; about: string; verdict: string; text: string }[];
  disclaimer: string;
  links: {
    images: Record<string, string | null>;
    masks: { prediction: number; image: string | null; url: string }[];
    maps: { prediction: number; about: string; text: string; image: string | null; url: string | null; overlay?: string | null }[];
    pictures: { url: string }[];
    page: string;
  };
}
