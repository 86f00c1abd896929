// Keeps the panel fresh, and sends what a button asks for. Without it the page shows the same, once.
"use strict";
(() => {
  const every = 5000;
  const said = document.getElementById("said");
  const pause = document.getElementById("pause");
  let paused = false;
  let busy = false;

  const where = () => {
    const place = document.activeElement;
    return place && place.dataset && place.dataset.replay ? place.dataset.replay : null;
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch("/panel", { headers: { Accept: "text/html" }, cache: "no-store", redirect: "manual" });
      if (!answer.ok) throw new Error(answer.type === "opaqueredirect" || answer.status === 401 ? "sign in again" : `HTTP ${answer.status}`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const held = where();
      document.title = page.title;
      document.querySelector("meta[name=csrf-token]").content = page.querySelector("meta[name=csrf-token]").content;
      for (const part of ["header > p:nth-of-type(1)", "header > p:nth-of-type(2)", "main"]) {
        document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
      }
      if (held !== null) {
        // Whoever is on a button by keyboard stays there.
        const same = [...document.querySelectorAll("button[data-replay]")].find((one) => one.dataset.replay === held);
        (same || document.getElementById("main")).focus({ preventScroll: true });
      }
      if (said.dataset.kind === "trouble") tell("", "");
    } catch (error) {
      tell(`This page is not fresh: the node did not answer (${error.message}).`, "trouble");
    } finally {
      busy = false;
    }
  };

  const tell = (words, kind) => {
    said.textContent = words;
    said.dataset.kind = kind;
  };

  const replay = async (button) => {
    button.disabled = true;
    try {
      const answer = await fetch("/node/v1/replay", {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          "X-CSRF-Token": document.querySelector("meta[name=csrf-token]").content,
        },
        body: button.dataset.replay,
      });
      const content = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(content.detail || `HTTP ${answer.status}`);
      tell(`Taken up again: ${content.deliveries} deliveries, ${content.studies} studies.`, "done");
      await refresh();
    } catch (error) {
      tell(`Nothing was sent again: ${error.message}`, "refused");
      button.disabled = false;
    }
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-replay]");
    if (button) replay(button);
  });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on refreshing" : "Pause refreshing";
  });
  setInterval(() => {
    if (!paused && !(window.getSelection() || "").toString()) refresh();
  }, every);
})();
