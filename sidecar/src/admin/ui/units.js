// Numbers as people read them. Nothing known is a dash, never a zero.

const NONE = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** 12345 → 12,345. */
export const count = (n) => known(n) ? Math.round(n).toLocaleString("en-US") : NONE;

/** A rate: one digit after the point below 100. */
export function rate(n) {
  if (!known(n)) return NONE;
  return n < 99.95 ? n.toFixed(1) : count(n);
}

/** 0.123 → 12.3 %. */
export const percent = (part) => known(part) ? `${(part * 100).toFixed(1)} %` : NONE;

/** Seconds, with as many digits as mean something. */
export function seconds(s) {
  if (!known(s)) return NONE;
  const ms = s * 1000;
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 100) return `${ms.toFixed(1)} ms`;
  if (ms < 10000) return `${ms.toFixed(0)} ms`;
  return `${s.toFixed(1)} s`;
}

/** 1536 → 1.5 KiB. */
export function bytes(n) {
  if (!known(n)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) {
    n /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${n} B` : `${n.toFixed(1)} ${units[unit]}`;
}

/** How long something runs: the two largest units. */
export function span(s) {
  if (!known(s)) return NONE;
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = parts.findIndex(([, length]) => s >= length);
  if (at < 0) return "0 s";
  const [unit, length] = parts[at];
  const text = `${Math.floor(s / length)} ${unit}`;
  const next = parts[at + 1];
  const rest = next ? Math.floor((s % length) / next[1]) : 0;
  return rest > 0 ? `${text} ${rest} ${next[0]}` : text;
}

/** `1 member`, `5 members`. */
export const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
