/** Sizes as PVE writes them, and amounts as people read them. */

const units: readonly string[] = ['', 'K', 'M', 'G', 'T'];

/** Bytes of a size in PVE's spelling (`32G`, `1.5M`, `512`), fractions of a byte cut as PVE does; null for any other text. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(?:([KMGT])(?:iB)?)?$/.exec(text);
  if (match === null || text.endsWith('\n')) return null;
  const [, digits = '', unit = ''] = match;
  const bytes = Math.floor(Number(digits) * 1024 ** units.indexOf(unit));
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** The size as PVE prints it: in the largest unit that divides it evenly. */
export function formatSize(bytes: number): string {
  const even = units.findLastIndex((_, exponent) => bytes >= 1024 ** exponent && bytes % 1024 ** exponent === 0);
  return even < 1 ? String(bytes) : `${bytes / 1024 ** even}${units[even]}`;
}

/** How an amount is shown; a resource of the configuration is one. */
export interface Presentation {
  readonly base: 1000 | 1024;
  /** Whether a prefix may shorten the number. */
  readonly compact: boolean;
  readonly unit: string;
}

const prefixes = {
  1000: ['', 'k', 'M', 'G', 'T', 'P'],
  1024: ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'],
} as const;

/** An amount in base units for a message, with at most two decimals: `12.5 GiB`, `100 MB/s`, `8 cores`. */
export function formatAmount(amount: number, { base, compact, unit }: Presentation): string {
  const reached = prefixes[base].findLastIndex((_, exponent) => Math.abs(amount) >= base ** exponent);
  const exponent = compact ? Math.max(reached, 0) : 0;
  const shown = Math.round((amount / base ** exponent) * 100) / 100;
  return `${shown} ${prefixes[base][exponent]}${unit}`.trimEnd();
}
