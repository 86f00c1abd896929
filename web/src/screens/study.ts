import type { Vec3 } from "../api";
import { errorText, type App } from "../app";
import { fill, h } from "../dom";
import { mountTabs } from "../tabs";

export interface Jump { to(image: string, point_lps_mm: Vec3 | null, index_zyx?: Vec3): void }

export function showStudy(host: HTMLElement, app: App, id: string, _jump: Jump): () => void {
  app.store.set({ screen: "study", study: null, image: null });
  const right = h("aside", { class: "right", "aria-label": "Work" });
  fill(host, right);
  const end = mountTabs(right, app);
  app.api.study(id).then(
    (study) => app.store.set({ study, image: study.images[0] ?? null }),
    (error: unknown) => app.notify(errorText(error), "error"),
  );
  return end;
}
