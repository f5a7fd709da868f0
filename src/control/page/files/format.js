// How numbers, times and sizes are written.

const whole = new Intl.NumberFormat("en");

export const number = (n) => whole.format(n ?? 0);

/** A rate: small ones with a digit behind the point, for the first message must be seen. */
export function rate(n) {
  if (!n) return "0";
  if (n < 10) return n < 0.05 ? "< 0.1" : String(Math.round(n * 10) / 10);
  return whole.format(Math.round(n));
}

export function bytes(n) {
  if (n < 1024) return `${Math.round(n)} B`;
  for (const [size, unit] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (n >= size) return `${(n / size).toFixed(n / size < 10 ? 1 : 0)} ${unit}`;
  }
  return "";
}

/** Milliseconds, as exact as they are worth reading. */
export function ms(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 10_000) return `${(n / 1000).toFixed(1)} s`;
  if (n >= 100) return `${Math.round(n)} ms`;
  return `${n < 1 ? n.toFixed(2) : n.toFixed(1)} ms`;
}

/** A time span in its two largest units. */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** How long ago by the clock of `serve`, which need not be that of the browser. */
export const since = (then, now) => span((Date.parse(now) - Date.parse(then)) / 1000);

const two = (n, digits = 2) => String(n).padStart(digits, "0");

/** The time of day here. */
export function clock(when, millis = false) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return millis ? `${time}.${two(date.getMilliseconds(), 3)}` : time;
}

/** Date and time here; of today only the time. */
export function moment(when) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  if (date.toDateString() === new Date().toDateString()) return clock(date);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(date)}`;
}

/** `1 connection`, `2 connections`. */
export const count = (n, thing) => `${number(n)} ${thing}${n === 1 ? "" : "s"}`;
