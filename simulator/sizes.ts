/** Disk sizes as PVE writes them: powers of 1024, upper-case units, bytes without one. */

const KiB = 1024;
export const MiB = KiB * 1024;
export const GiB = MiB * 1024;
const TiB = GiB * 1024;

const factors: Readonly<Record<string, number>> = { K: KiB, M: MiB, G: GiB, T: TiB };

/** Bytes of `32G`, `528K`, `1.5T`, `1073741824`; a fraction of a byte is cut; undefined for what PVE does not take. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(?:([KMGT])(?:iB)?)?$/.exec(text);
  if (match === null) return undefined;
  return Math.floor(Number(match[1]) * (match[2] === undefined ? 1 : (factors[match[2]] ?? 1)));
}

/** The largest unit that divides evenly, as PVE prints it: `32G`, `4M`, `1000` and, for nothing at all, `0T`. */
export function formatSize(bytes: number): string {
  const unit = ['T', 'G', 'M', 'K'].find((name) => bytes % (factors[name] ?? 1) === 0);
  return unit === undefined ? String(bytes) : `${bytes / (factors[unit] ?? 1)}${unit}`;
}

export function roundUp(bytes: number, step: number): number {
  return Math.ceil(bytes / step) * step;
}

/** Where a resize leads: `+8G` counts from what is there, `40G` is the size itself; a disk never shrinks. */
export function resizedBytes(text: string, current: number): number | undefined {
  const isRelative = text.startsWith('+');
  const given = parseSize(isRelative ? text.slice(1) : text);
  return given === undefined ? undefined : Math.floor(given + (isRelative ? current : 0));
}
