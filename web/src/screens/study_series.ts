// The left side: series with small pictures, layers, confirmed masks, earlier studies and their reports.

import type { ImageItem, MaskItem, StudyDetail } from "../api";
import { errorText } from "../app";
import { fill, h, refill } from "../dom";
import { rgb, type Layer } from "../view/levels";
import { describe } from "../view/measure";
import type { StudyScreen } from "./study";

const COLOURS = ["#ff8a3d", "#b58cff", "#4fc3f7", "#ffd54f", "#f06292", "#9ccc65"];

export function mountSeries(host: HTMLElement, screen: StudyScreen): { end: () => void; refresh: () => void; showLayers: () => void } {
  const { app, viewer } = screen;
  const series = h("ul", { class: "series", "aria-label": "Series" });
  const loading = h("progress", { class: "loading", max: 1, "aria-label": "Planes fetched" });
  const layers = h("div", { class: "layers", "aria-label": "Layers" });
  const masks = h("div", { class: "layers" });
  const measured = h("ul", { class: "measures", "data-measures": "" });
  const measuring = h("section", null, h("h2", null, "Measured"), measured);
  const priors = h("div", { class: "stack" });
  const notes = h("ul", { class: "notes-of quiet" });
  fill(host, h("section", null, h("h2", null, "Series"), loading, series, notes), measuring, h("section", null, h("h2", null, "Layers"), layers),
    h("section", null, h("h2", null, "Confirmed masks"), masks), h("section", null, h("h2", null, "Earlier"), priors));

  const pictures: string[] = [];
  const thumbs = new AbortController();
  const ends: (() => void)[] = [];
  let timer = 0;

  ends.push(app.store.watch(["study"], ({ study }) => {
    if (!study) return;
    fill(series, study.images.map((image) => entry(image, screen)));
    drawPriors(priors, study, screen);
    void drawPictures(study, series, screen, thumbs.signal, pictures);
  }));
  ends.push(app.store.watch(["image"], ({ image }) => {
    for (const button of series.querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.image === image?.id));
    const lines = image ? [image.too_large ? "too large to be held whole: the stored planes are shown one by one" : "", ...image.notes].filter(Boolean) : [];
    fill(notes, lines.map((line) => h("li", null, line)));
    // Those of the image before do not stand under this one while its own are on their way.
    fill(masks);
    if (image) void drawMasks(masks, image, screen);
  }));
  ends.push(screen.interaction.store.subscribe((s, before) => {
    const { image } = app.store.get();
    if (s.confirmed && s.confirmed !== before.confirmed && image) void drawMasks(masks, image, screen);
  }));
  // A row stays where it is while its layer is hidden and shown: who works by keyboard keeps the focus.
  let seen: Layer[] = [];
  const showLayers = (): void => {
    const list = screen.layers.list;
    const same = list.length === seen.length && list.every((layer, at) => layer.id === seen[at].id && layer.name === seen[at].name);
    if (!same || !layers.childElementCount) drawLayers(layers, list, screen);
    else for (const [at, box] of layers.querySelectorAll<HTMLInputElement>("input[type=checkbox]").entries()) box.checked = !list[at].hidden;
    seen = list;
  };
  timer = window.setInterval(showLayers, 250);
  // Never of the series before: what is said to be here can be seen.
  let arriving = (): void => {};
  const showProgress = (): void => {
    const { volume } = viewer;
    loading.value = volume?.done ?? 0;
    loading.style.visibility = volume && volume.done < 1 && !volume.sparse ? "visible" : "hidden";
    // A mean is that of the planes that are here.
    if (viewer.measures.length) refresh();
  };
  ends.push(() => arriving());
  ends.push(viewer.on((what) => {
    if (what !== "image") return;
    arriving();
    arriving = viewer.volume?.subscribe(showProgress) ?? (() => {});
    showProgress();
  }));
  showProgress();
  const refresh = (): void => {
    measuring.hidden = viewer.measures.length === 0;
    refill(measured, viewer.measures.map((measure) => {
      const plane = viewer.planes.find((one) => one.axes.slice === measure.slice);
      if (!plane) return null;
      const { text, refused } = describe(measure, plane.volume, plane.axes, viewer.channel);
      return h("li", null, h("button", { type: "button", class: "plain", "data-keep": String(measure.id), title: "Go to its slice", onclick: () => {
        viewer.chosenMeasure = measure.id;
        viewer.activate(plane);
        viewer.showSlice(plane, measure.k);
      } }, `${measure.kind}: ${[text, refused && `(${refused})`].filter(Boolean).join(" ") || "begun"}`));
    }));
  };
  refresh();
  const end = (): void => {
    clearInterval(timer);
    thumbs.abort();
    for (const url of pictures) URL.revokeObjectURL(url);
    for (const stop of ends) stop();
  };
  return { end, refresh, showLayers };
}

function entry(image: ImageItem, screen: StudyScreen): HTMLElement {
  const [z, y, x] = image.shape_zyx;
  const size = z > 1 ? `${x} × ${y} × ${z}${image.stack === "time" ? " frames" : ""}` : `${x} × ${y}`;
  return h("li", null, h("button", {
    type: "button", "data-image": image.id, "aria-current": String(screen.app.store.get().image?.id === image.id),
    onclick: () => screen.app.store.set({ image }),
  }, h("span", { class: "blank", "aria-hidden": "true" }, image.modality), h("span", null, image.description || image.modality, h("small", null, `${image.modality} ${size}`))));
}

/** Small pictures after the first plane, one at a time, so that they never delay what is read. */
async function drawPictures(study: StudyDetail, series: HTMLElement, screen: StudyScreen, signal: AbortSignal, pictures: string[]): Promise<void> {
  for (const image of study.images) {
    while (screen.viewer.volume && screen.viewer.volume.done === 0 && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100));
    if (signal.aborted) return;
    try {
      const response = await screen.app.api.request(`images/${encodeURIComponent(image.id)}/picture.png?plane=z&width_px=112`, { signal });
      const url = URL.createObjectURL(await response.blob());
      pictures.push(url);
      const blank = series.querySelector(`[data-image="${CSS.escape(image.id)}"] .blank`);
      blank?.replaceWith(h("img", { src: url, alt: "" }));
    } catch {
      // A series without a small picture keeps its letters; the planes say what is wrong where something is.
      if (signal.aborted) return;
    }
  }
}

function drawLayers(host: HTMLElement, list: Layer[], screen: StudyScreen): void {
  if (!list.length) return fill(host, h("p", { class: "quiet" }, "None over this image."));
  fill(host, list.map((layer) => {
    const id = `layer-${layer.id.replace(/\W/g, "-")}`;
    return h("div", { class: "layer", "data-layer": layer.id },
      h("input", { type: "checkbox", id, checked: !layer.hidden, onchange: (event: Event) => screen.layers.restyle(layer.id, { hidden: !(event.target as HTMLInputElement).checked }) }),
      h("input", { type: "color", value: hex(layer.colour), "aria-label": `Colour of ${layer.name}`, oninput: (event: Event) => screen.layers.restyle(layer.id, { colour: (event.target as HTMLInputElement).value }) }),
      h("label", { for: id }, layer.name),
      h("input", { type: "range", min: 0, max: 1, step: 0.05, value: layer.opacity, "aria-label": `Opacity of ${layer.name}`, oninput: (event: Event) => screen.layers.restyle(layer.id, { opacity: Number((event.target as HTMLInputElement).value) }) }),
    );
  }));
}

function hex(colour: string): string {
  return `#${rgb(colour).map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/** Counts what was asked, so that a list from before a confirmation never takes the place of the one after. */
let masksAsked = 0;

async function drawMasks(host: HTMLElement, image: ImageItem, screen: StudyScreen): Promise<void> {
  const asked = ++masksAsked;
  const left = (): boolean => asked !== masksAsked || screen.app.store.get().image?.id !== image.id;
  let list: MaskItem[];
  try {
    list = await screen.app.api.masks(image.id);
  } catch (error) {
    if (left()) return;
    return fill(host, h("p", { class: "quiet" }, errorText(error)));
  }
  if (left()) return;
  if (!list.length) return fill(host, h("p", { class: "quiet" }, "None yet."));
  fill(host, list.map((mask, at) => {
    const { id } = mask;
    const name = `${mask.label} (${mask.reader || "no initials"})`;
    return h("label", { class: "row" }, h("input", {
      type: "checkbox", "data-mask": id, checked: screen.app.store.get().overlays.some((one) => one.id === id),
      onchange: (event: Event) => {
        if (!(event.target as HTMLInputElement).checked) return screen.app.hideOverlay(id);
        screen.app.showOverlay({ id, image: image.id, name, url: `masks/${encodeURIComponent(id)}`, colour: COLOURS[at % COLOURS.length], opacity: 0.35, kind: "mask" });
      },
    }), name);
  }));
}

function drawPriors(host: HTMLElement, study: StudyDetail, screen: StudyScreen): void {
  fill(host,
    study.priors.length
      ? study.priors.map((prior) => h("a", { href: `#/study/${encodeURIComponent(prior.id)}` }, [prior.study_date, prior.modalities.join(" "), prior.description].filter(Boolean).join(" ")))
      : h("p", { class: "quiet" }, "No earlier study of this patient is here."),
    study.priors.length ? screen.app.commands.button("view.compare", "Compare") : null,
    study.left_out.length ? h("details", { class: "warn" }, h("summary", null, `${study.left_out.length} not shown`), study.left_out.map((one) => h("p", null, `${one.where}: ${one.reason}`))) : null,
    study.notes.map((note) => h("p", { class: "quiet" }, note)),
    study.reports.map((report) => h("details", null, h("summary", null, [report.date, report.title].filter(Boolean).join(" ")), h("p", null, report.text))),
  );
}
