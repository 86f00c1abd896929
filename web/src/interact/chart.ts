// Clicks per case over the session: whether the next case gets cheaper.

import { h, svg } from "../dom";
import type { Case } from "./session";

export function clicksChart(cases: Case[]): HTMLElement {
  const most = Math.max(5, ...cases.map((one) => one.clicks));
  const width = 260;
  const height = 70;
  const step = Math.min(28, width / Math.max(1, cases.length));
  const picture = svg("svg", { viewBox: `0 -12 ${width + 20} ${height + 40}`, class: "chart", role: "img", "aria-label": `Clicks per case: ${cases.map((one) => one.clicks).join(", ")}` });
  picture.append(svg("line", { x1: 18, y1: height + 6, x2: width + 18, y2: height + 6, class: "axis" }));
  picture.append(svg("text", { x: 14, y: 12, "text-anchor": "end" }, String(most)), svg("text", { x: 14, y: height + 8, "text-anchor": "end" }, "0"));
  cases.forEach((one, at) => {
    const tall = (one.clicks / most) * height;
    picture.append(svg("rect", { x: 20 + at * step, y: height + 6 - tall, width: Math.max(2, step - 4), height: tall, class: "bar" }));
    if (step > 12) {
      picture.append(svg("text", { x: 20 + at * step + (step - 4) / 2, y: height + 4 - tall - 1, "text-anchor": "middle" }, String(one.clicks)));
      picture.append(svg("text", { x: 20 + at * step + (step - 4) / 2, y: height + 20, "text-anchor": "middle" }, String(at + 1)));
    }
  });
  const first = cases[0];
  const last = cases[cases.length - 1];
  const words = cases.length < 2
    ? "The chart grows with every case that is confirmed."
    : `First case ${first.clicks} clicks, latest ${last.clicks}.`;
  return h("figure", { class: "clicks" }, picture, h("figcaption", { class: "quiet" }, words));
}
