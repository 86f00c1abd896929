// The bar over the planes: tools, windows, layout, comparison, fusion.

import { fill, h } from "../dom";
import type { Palette } from "../view/shade";
import { sameFrame } from "../view/fusion";
import { isColour, unitOf, windowsOf } from "../view/shade";
import type { StudyScreen } from "./study";
import { chooseFusion, fusionCandidates } from "./study_commands";

const TOOLS: [string, string][] = [
  ["tool.crosshair", "Crosshair"], ["tool.window", "Window"], ["tool.pan", "Pan"], ["tool.zoom", "Zoom"],
  ["tool.distance", "Distance"], ["tool.angle", "Angle"], ["tool.ellipse", "Ellipse"],
];

export function mountToolbar(host: HTMLElement, screen: StudyScreen): () => void {
  const { app, viewer, tools } = screen;
  const buttons = TOOLS.map(([id, text]) => app.commands.button(id, text));
  const windows = h("select", { "aria-label": "Window", title: "Window (1 to 9)" });
  windows.addEventListener("change", () => {
    const one = viewer.image && windowsOf(viewer.image)[Number(windows.value)];
    if (one) viewer.setWindow(one);
    else if (windows.value === "auto") viewer.automatic();
  });
  const layout = app.commands.button("view.layout", "1 × 1");
  const compare = app.commands.button("view.compare", "Compare");
  const three = app.commands.button("view.three", "3D");
  const cine = app.commands.button("view.cine", "Play");
  const invert = app.commands.button("view.invert", "Invert");
  const fusion = h("select", { "aria-label": "Image in colour over this one" });
  const colours = h("select", { "aria-label": "Colours of the fusion" }, ["hot", "viridis", "turbo"].map((name) => h("option", { value: name }, name)));
  const opacity = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.5, "aria-label": "Opacity of the fusion", style: { width: "80px" } });
  const sampling = h("select", { "aria-label": "Sampling of the fusion" }, h("option", { value: "trilinear" }, "trilinear"), h("option", { value: "nearest" }, "nearest"));
  const high = h("input", { type: "number", step: "any", "aria-label": "Value in full colour", title: "Value in full colour", style: { width: "70px" } });
  const unit = h("span", { class: "quiet" });
  const frame = h("span", { class: "warn", role: "status" });
  const details = h("span", { class: "row" }, colours, opacity, sampling, h("span", null, "to"), high, unit, frame);
  fusion.addEventListener("change", () => chooseFusion(screen, fusion.value));
  for (const field of [colours, opacity, sampling, high]) {
    field.addEventListener("input", () => {
      const now = viewer.fusion;
      if (!now) return;
      const low = now.window.centre - now.window.width / 2;
      const top = high.value !== "" && Number(high.value) > low ? Number(high.value) : low + now.window.width;
      viewer.fusion = { ...now, palette: colours.value as Palette, opacity: Number(opacity.value), sampling: sampling.value as "trilinear" | "nearest", window: { centre: (low + top) / 2, width: top - low } };
      viewer.invalidate();
    });
  }
  fill(host, buttons, h("span", { class: "gap" }), h("label", { class: "row" }, windows), invert, layout, three, cine, compare, fusion, details);

  let shownFor = "";
  return () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.command === `tool.${tools.tool}`));
    const { image } = viewer;
    layout.setAttribute("aria-pressed", String(viewer.layout === "one"));
    layout.disabled = viewer.planes.length < 2;
    three.disabled = !screen.three.available;
    invert.setAttribute("aria-pressed", String(viewer.inverted));
    invert.disabled = windows.disabled = !image || isColour(image);
    compare.setAttribute("aria-pressed", String(screen.compare !== null));
    compare.disabled = !app.store.get().study?.priors.length;
    cine.textContent = screen.cine ? "Pause" : "Play";
    cine.disabled = (viewer.active?.slices ?? 1) < 2;
    if (shownFor !== (image?.id ?? "")) {
      shownFor = image?.id ?? "";
      const list = image ? windowsOf(image) : [];
      fill(windows, list.map((one, at) => h("option", { value: at }, `${one.name}`)), h("option", { value: "auto" }, "Automatic"), h("option", { value: "own", hidden: true }, "Own window"));
      const candidates = fusionCandidates(screen);
      fusion.hidden = candidates.length === 0;
      fill(fusion, h("option", { value: "" }, "No fusion"), candidates.map((one) => h("option", { value: one.id }, `Fusion: ${one.modality} ${one.description}`)));
    }
    const at = image ? windowsOf(image).findIndex((one) => one.centre === viewer.window.centre && one.width === viewer.window.width) : -1;
    windows.value = at >= 0 ? String(at) : "own";
    const now = viewer.fusion;
    details.hidden = !now;
    fusion.value = now?.volume.image.id ?? "";
    if (now) {
      colours.value = now.palette;
      opacity.value = String(now.opacity);
      sampling.value = now.sampling;
      if (document.activeElement !== high) high.value = String(Number((now.window.centre + now.window.width / 2).toPrecision(4)));
      unit.textContent = unitOf(now.volume.image);
      const same = sameFrame(viewer.volume!, now.volume);
      // Where its planes are not here yet nothing is painted, which must not be taken for an image without uptake.
      if (now.volume.done < 1) frame.textContent = now.volume.problem || "loading…";
      else frame.textContent = same === false ? "other frame of reference: not registered" : same === null ? "frame of reference not known" : "";
    }
  };
}
