// Pictures of time and of effects: a curve with its band, an effect with its interval.

import { h, svg } from "../dom";
import type { Curve } from "./types";

const WIDTH = 320, HEIGHT = 180, LEFT = 34, RIGHT = 8, TOP = 8, BOTTOM = 32;

/** Share without the event over time: each curve with its band, steps as they are told. */
export function curveChart(curves: Curve[], horizonDays: number | null, event: string): HTMLElement {
  const last = Math.max(1, ...curves.map((one) => one.days[one.days.length - 1] ?? 0));
  const months = last > 90;
  const x = (day: number): number => LEFT + (Math.min(day, last) / last) * (WIDTH - LEFT - RIGHT);
  const y = (percent: number): number => TOP + (1 - percent / 100) * (HEIGHT - TOP - BOTTOM);
  const own = curves[0];
  const words = summary(own, horizonDays, event);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words });
  for (const percent of [0, 25, 50, 75, 100]) {
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(percent), y2: y(percent) }),
      svg("text", { x: LEFT - 4, y: y(percent) + 4, "text-anchor": "end" }, `${percent}%`),
    );
  }
  const step = nice(months ? last / 30.4375 : last, 5);
  const unit = months ? 30.4375 : 1;
  for (let at = 0; at * unit <= last * 1.0001; at += step) {
    picture.append(svg("text", { x: x(at * unit), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, String(Math.round(at))));
  }
  picture.append(
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(0), y2: y(0) }),
    svg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, months ? "months" : "days"),
  );
  if (horizonDays !== null) picture.append(svg("line", { class: "horizon", x1: x(horizonDays), x2: x(horizonDays), y1: TOP, y2: y(0) }));
  for (const [number, one] of [...curves.entries()].reverse()) {
    const kind = number === 0 ? "" : " near";
    if (one.low_percent.length) picture.append(svg("path", { class: `band${kind}`, d: band(one, x, y) }));
    picture.append(svg("path", { class: `line${kind}`, d: stairs(one.days, one.percent, x, y) }));
  }
  return h("figure", { class: "curve" }, picture, h("figcaption", { class: "quiet" }, words,
    curves.length > 1 ? ` Dashed: ${curves.slice(1).map((one) => one.name).join(", ")}.` : ""));
}

function stairs(days: number[], values: number[], x: (d: number) => number, y: (v: number) => number): string {
  return values.map((value, at) => (at ? `H${x(days[at]).toFixed(1)}V${y(value).toFixed(1)}` : `M${x(days[0]).toFixed(1)},${y(value).toFixed(1)}`)).join("");
}

function band(one: Curve, x: (d: number) => number, y: (v: number) => number): string {
  const back = one.days.map((_, at) => one.days.length - 1 - at).map((at) => {
    const level = `V${y(one.low_percent[at]).toFixed(1)}`;
    return at ? `${level}H${x(one.days[at]).toFixed(1)}` : level;
  });
  return `${stairs(one.days, one.high_percent, x, y)}${back.join("")}Z`;
}

function summary(one: Curve, horizonDays: number | null, event: string): string {
  const day = horizonDays ?? one.days[one.days.length - 1];
  let at = one.days.findIndex((value) => value >= day - 1e-6);
  if (at < 0) at = one.days.length - 1;
  const range = one.low_percent.length ? ` (band ${round(one.low_percent[at])} to ${round(one.high_percent[at])} %)` : "";
  return `By day ${round(day)}, ${round(one.percent[at])} % of people like this are without ${event}${range}.`;
}

export interface Amount { value: number; low: number; high: number; level: number }

/** An effect with its interval beside no difference. */
export function effectChart(rows: { name: string; amount: Amount; scale: number; unit: string }[]): HTMLElement {
  const line = 34;
  const height = rows.length * line + 26;
  const ends = rows.flatMap(({ amount, scale }) => [amount.low * scale, amount.high * scale, 0]);
  const low = Math.min(...ends);
  const high = Math.max(...ends);
  const room = (high - low || 1) * 0.08;
  const x = (value: number): number => 10 + ((value - low + room) / (high - low + 2 * room || 1)) * (WIDTH - 20);
  const words = rows.map(({ name, amount, scale, unit }) =>
    `${name}: ${round(amount.value * scale)} ${unit}, interval ${round(amount.low * scale)} to ${round(amount.high * scale)}`).join("; ");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": words });
  picture.append(svg("line", { class: "zero", x1: x(0), x2: x(0), y1: 4, y2: height - 16 }),
    svg("text", { x: Math.min(WIDTH - 44, Math.max(44, x(0))), y: height - 4, "text-anchor": "middle" }, "no difference"));
  rows.forEach(({ name, amount, scale, unit }, at) => {
    const y = at * line + 24;
    picture.append(
      svg("text", { x: 10, y: y - 9 }, `${name}: ${`${round(amount.value * scale)} ${unit}`.trim()} (${round(amount.low * scale)} to ${round(amount.high * scale)})`),
      svg("line", { class: "interval", x1: x(amount.low * scale), x2: x(amount.high * scale), y1: y, y2: y }),
      svg("circle", { class: "dot", cx: x(amount.value * scale), cy: y, r: 4 }),
    );
  });
  return h("figure", { class: "curve" }, picture);
}

export function round(value: number): string {
  const size = Math.abs(value);
  return size >= 100 || Number.isInteger(value) ? value.toFixed(0) : size >= 1 ? value.toFixed(1) : value.toPrecision(2);
}

function nice(span: number, parts: number): number {
  const raw = span / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 3, 5, 10].map((one) => one * power).find((one) => one >= raw) ?? raw;
}
