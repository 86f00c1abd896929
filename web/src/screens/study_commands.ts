// Every action on a study as a command with a key.

import type { ImageItem } from "../api";
import type { Command } from "../commands";
import { range } from "../interact/panel";
import { whyNotFused } from "../view/fusion";
import { INTERACTION } from "../view/layers";
import { isColour, windowsOf } from "../view/shade";
import { PROMPT_TOOLS, type Tool } from "../view/tools";
import type { StudyScreen } from "./study";

export function registerStudy(screen: StudyScreen): () => void {
  return screen.app.commands.register(
    ...toolCommands(screen), ...moveCommands(screen), ...viewCommands(screen), ...windowCommands(screen), ...markCommands(screen), ...seriesCommands(screen),
  );
}

/** Not while a panel is being read: there the space bar and the arrows scroll its text. */
function atPlanes(): boolean {
  const focus = document.activeElement;
  return !focus?.closest(".right .panel") || focus.matches("button");
}

function toolCommands(screen: StudyScreen): Command[] {
  const { tools } = screen;
  const one = (id: string, label: string, key: string, tool: Tool, positive = true): Command => ({
    id: `tool.${id}`, label, group: "Tools", keys: [key],
    run: () => {
      tools.choose(tool, positive);
      if (PROMPT_TOOLS.includes(tool)) screen.app.store.set({ tab: "interact" });
    },
  });
  return [
    one("crosshair", "Crosshair", "x", "crosshair"), one("window", "Window (drag; also the right button)", "w", "window"),
    one("pan", "Move the picture (also shift and drag)", "h", "pan"), one("zoom", "Zoom (drag; also Ctrl and wheel)", "z", "zoom"),
    one("point", "Point that belongs to it", "p", "point"), one("background", "Point that does not belong to it", "n", "point", false),
    one("box", "Box", "b", "box"), one("scribble", "Scribble", "s", "scribble"), one("lasso", "Lasso", "l", "lasso"),
    one("erase", "Erase with a scribble", "e", "erase"), one("lasso-out", "Erase with a lasso", "shift+e", "lasso", false),
    one("distance", "Distance", "d", "distance"), one("angle", "Angle", "a", "angle"), one("ellipse", "Ellipse: mean and spread", "o", "ellipse"),
    { id: "tool.press", label: "Do it at the crosshair (place, begin, end)", group: "Tools", keys: ["space", "enter"], enabled: atPlanes, run: () => tools.press() },
    { id: "tool.press-out", label: "The same, with the opposite sign", group: "Tools", keys: ["alt+space", "shift+enter"], enabled: atPlanes, run: () => tools.press(true) },
    {
      id: "tool.cancel", label: "Leave what was begun; then the tool", group: "Tools", keys: ["escape"],
      enabled: () => !document.querySelector("dialog[open]"),
      run: () => {
        const field = document.activeElement;
        if (field instanceof HTMLElement && field.matches("input, select, textarea")) return screen.viewer.active?.element.focus({ preventScroll: true });
        if (!tools.cancel()) tools.choose("crosshair");
      },
    },
    { id: "tool.delete", label: "Delete the latest measurement", group: "Tools", keys: ["delete", "backspace"], run: () => void tools.deleteMeasure() },
  ];
}

function moveCommands(screen: StudyScreen): Command[] {
  const { viewer, tools } = screen;
  const move = (name: string, label: string, key: string, right: number, down: number): Command => ({
    id: `move.${name}`, label, group: "Crosshair and slices", keys: [key], enabled: atPlanes,
    run: () => {
      viewer.nudge(right, down);
      tools.followCursor();
    },
  });
  const scroll = (name: string, label: string, keys: string[], step: number): Command => ({
    id: `scroll.${name}`, label, group: "Crosshair and slices", keys, enabled: atPlanes, run: () => viewer.scroll(step),
  });
  return [
    move("left", "Crosshair to the left", "arrowleft", -1, 0), move("right", "Crosshair to the right", "arrowright", 1, 0),
    move("up", "Crosshair up", "arrowup", 0, -1), move("down", "Crosshair down", "arrowdown", 0, 1),
    move("left-10", "Ten to the left", "shift+arrowleft", -10, 0), move("right-10", "Ten to the right", "shift+arrowright", 10, 0),
    move("up-10", "Ten up", "shift+arrowup", 0, -10), move("down-10", "Ten down", "shift+arrowdown", 0, 10),
    scroll("next", "Next slice", ["pagedown", "j"], 1), scroll("back", "Slice before", ["pageup", "k"], -1),
    scroll("next-10", "Ten slices on", ["shift+pagedown", "shift+j"], 10), scroll("back-10", "Ten slices back", ["shift+pageup", "shift+k"], -10),
    scroll("first", "First slice", ["home"], -1e6), scroll("last", "Last slice", ["end"], 1e6),
    { id: "move.plane", label: "Next plane", group: "Crosshair and slices", keys: ["f"], run: () => viewer.nextPlane(1) },
    { id: "move.plane-back", label: "Plane before", group: "Crosshair and slices", keys: ["shift+f"], run: () => viewer.nextPlane(-1) },
  ];
}

function viewCommands(screen: StudyScreen): Command[] {
  const { viewer } = screen;
  const one = (name: string, label: string, keys: string[], run: () => void, enabled?: () => boolean): Command => ({ id: `view.${name}`, label, group: "View", keys, run, enabled });
  return [
    one("zoom-in", "Larger", ["+", "="], () => viewer.active?.zoomBy(1.25)), one("zoom-out", "Smaller", ["-"], () => viewer.active?.zoomBy(0.8)),
    one("reset", "Fit all planes", ["0"], () => viewer.resetView()),
    one("layout", "One plane or all", ["m"], () => viewer.setLayout(viewer.layout === "grid" ? "one" : "grid")),
    one("smooth", "Smooth or single pixels", ["i"], () => {
      viewer.smooth = !viewer.smooth;
      viewer.invalidate();
    }),
    one("cross", "Show or hide the crosshair", ["shift+x"], () => {
      viewer.crosshair = !viewer.crosshair;
      viewer.invalidate();
    }),
    one("channel", "Next channel (echo, time point)", [";"], () => viewer.showChannel(1), () => Boolean(viewer.image && viewer.image.channels > 1 && !isColour(viewer.image))),
    one("layers", "Show or hide all layers", ["v"], () => screen.layers.toggleAll()),
    one("three", "3D view", ["t"], () => {
      viewer.setLayout("grid");
      void screen.three.show();
    }, () => screen.three.available),
    one("cine", "Play or pause", ["shift+space", "y"], () => screen.toggleCine()),
    one("compare", "Compare with an earlier study", ["c"], () => screen.toggleCompare(), () => screen.compare !== null || Boolean(screen.app.store.get().study?.priors.length)),
    one("link", "Link or unlink both studies", ["shift+c"], () => screen.compare?.toggleLink(), () => screen.compare !== null),
    one("fusion", "Fusion on or off", ["q"], () => {
      const first = fusionCandidates(screen)[0];
      chooseFusion(screen, viewer.fusion || !first ? "" : first.id);
    }, () => viewer.fusion !== null || fusionCandidates(screen).length > 0),
  ];
}

function windowCommands(screen: StudyScreen): Command[] {
  const { viewer } = screen;
  const presets: Command[] = Array.from({ length: 9 }, (_, at) => ({
    id: `window.${at + 1}`, label: `Window ${at + 1} of the list`, group: "Window", keys: [String(at + 1)],
    enabled: () => Boolean(viewer.image && !isColour(viewer.image) && windowsOf(viewer.image)[at]),
    run: () => viewer.setWindow(windowsOf(viewer.image!)[at]),
  }));
  const step = (name: string, label: string, key: string, dx: number, dy: number): Command => ({
    id: `window.${name}`, label, group: "Window", keys: [key], run: () => viewer.dragWindow(dx, dy, viewer.window),
  });
  return [
    ...presets,
    { id: "window.automatic", label: "Automatic window", group: "Window", keys: ["shift+w"], run: () => viewer.automatic() },
    { id: "view.invert", label: "Invert", group: "Window", keys: ["shift+i"], run: () => viewer.invert() },
    step("wider", "Wider", "alt+arrowright", 10, 0), step("narrower", "Narrower", "alt+arrowleft", -10, 0),
    step("darker", "Centre up (darker)", "alt+arrowup", 0, 10), step("brighter", "Centre down (brighter)", "alt+arrowdown", 0, -10),
  ];
}

function markCommands(screen: StudyScreen): Command[] {
  const { interaction, viewer } = screen;
  const one = (name: string, label: string, keys: string[], run: () => unknown, enabled: () => boolean = () => interaction.ready): Command => ({
    id: `interact.${name}`, label, group: "Marking", keys, run: () => void run(), enabled,
  });
  const turn = (step: number) => () => {
    const { alternatives, chosen } = interaction.store.get();
    if (!alternatives.length) return;
    const at = alternatives.findIndex((alternative) => alternative.number === chosen);
    interaction.choose(alternatives[(at + step + alternatives.length) % alternatives.length].number);
  };
  return [
    one("undo", "Undo", ["ctrl+z", "u"], () => interaction.undo()), one("redo", "Redo", ["ctrl+y", "ctrl+shift+z", "shift+u"], () => interaction.redo()),
    one("clear", "Clear all prompts", ["shift+delete"], () => interaction.clear()),
    one("alternative-next", "Next alternative", ["."], turn(1)), one("alternative-back", "Alternative before", [","], turn(-1)),
    one("propagate", "Propagate through the slices", ["g"], () => {
      // The fields say how far; they are those of this image only while they are there.
      screen.app.store.set({ tab: "interact" });
      const [first, last] = range.read();
      interaction.propagate(viewer.active?.axes.slice ?? 0, first, last);
    }),
    one("stop", "Stop the propagation", ["shift+g"], () => interaction.stop(), () => interaction.store.get().progress !== null),
    one("confirm", "Confirm the mask", ["ctrl+enter"], () => {
      if (!screen.layers.hidesInteraction) return interaction.confirm();
      // What is confirmed is what is seen.
      screen.layers.restyle(INTERACTION, { hidden: false });
      screen.app.notify("The outline was hidden: look at it, then confirm.");
    }),
    one("structure", "Name the structure", ["r"], () => {
      screen.app.store.set({ tab: "interact" });
      document.getElementById("structure")?.focus();
    }, () => true),
  ];
}

function seriesCommands(screen: StudyScreen): Command[] {
  const go = (step: number): void => {
    const { study, image } = screen.app.store.get();
    if (!study?.images.length) return;
    const at = study.images.findIndex((one) => one.id === image?.id);
    screen.app.store.set({ image: study.images[(at + step + study.images.length) % study.images.length] });
  };
  return [
    { id: "series.next", label: "Next series", group: "View", keys: ["]"], run: () => go(1) },
    { id: "series.back", label: "Series before", group: "View", keys: ["["], run: () => go(-1) },
  ];
}

/** Images of the study that may be laid in colour over the one in view. */
export function fusionCandidates(screen: StudyScreen): ImageItem[] {
  const { image } = screen.viewer;
  const images = screen.app.store.get().study?.images ?? [];
  if (!image?.affine_zyx_to_lps_mm) return [];
  const nuclear = (one: ImageItem) => Number(one.modality === "PT" || one.modality === "NM");
  return images
    .filter((one) => one.id !== image.id && one.affine_zyx_to_lps_mm && one.channels === 1 && one.shape_zyx[0] > 1 && !one.too_large)
    .sort((a, b) => nuclear(b) - nuclear(a));
}

export function chooseFusion(screen: StudyScreen, id: string): void {
  const { viewer, volumes } = screen;
  const image = screen.app.store.get().study?.images.find((one) => one.id === id);
  if (!image || !viewer.volume) {
    viewer.fusion = null;
  } else {
    const volume = volumes.get(image);
    const refused = whyNotFused(viewer.volume, volume);
    if (refused) return screen.app.notify(refused, "error");
    const window = image.quantity.startsWith("SUV") ? { centre: 5, width: 10 } : windowsOf(image)[0];
    viewer.fusion = { volume, palette: "hot", window: { centre: window.centre, width: window.width }, opacity: 0.5, sampling: "trilinear" };
    const end = volume.subscribe(() => {
      if (viewer.fusion?.volume === volume) {
        viewer.invalidate();
        screen.refresh();
      }
      if (volume.done === 1) end();
    });
    volume.prefer(volume.image.shape_zyx[0] / 2);
    screen.trim();
  }
  viewer.invalidate();
  screen.refresh();
}
