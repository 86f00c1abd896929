// A session marks one structure in one reader's name. Where either changes, it ends: no mask is stored under the wrong one.

import type { App } from "../app";
import { sure } from "../people";
import { interactionOf } from "./session";

/** What shall be marked next, as `shared.structure`; a new object whenever it is said anew. */
export interface Wanted { label: string }

/** End the session when somebody else works here from now on. */
export function endWithReader(app: App): void {
  const interaction = interactionOf(app.api, app.notify);
  app.store.subscribe(({ reader }, before) => {
    if (reader === before.reader) return;
    const { phase, label } = interaction.store.get();
    if (phase === "off") return;
    app.notify(`${before.reader} marks “${label}” no more: whoever works now begins anew.`);
    void interaction.end();
  });
}

/**
 * Say which structure is marked next, before its image is shown. A session of another structure ends.
 *
 * @returns Whether to go on: what is marked and not confirmed is given up by the reader alone.
 */
export async function turnTo(app: App, label: string): Promise<boolean> {
  const interaction = interactionOf(app.api, app.notify);
  interaction.resume();
  const now = interaction.store.get();
  if (now.phase !== "off" && now.label !== label) {
    const question = `“${now.label}” is marked and not confirmed. To mark “${label}” its session ends, and that outline is gone.`;
    if (interaction.unconfirmed && !(await sure("Not confirmed yet", question, "End it and go on", "Stay"))) return false;
    await interaction.end();
    app.notify(`Marking “${now.label}” has ended. Begin “${label}” on the tab Interact.`);
  }
  localStorage.setItem("isocenter.label", label);
  const wanted: Wanted = { label };
  app.store.set({ shared: { ...app.store.get().shared, structure: wanted } });
  return true;
}
