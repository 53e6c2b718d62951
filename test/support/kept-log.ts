/** A log that a test can read afterwards. */

import { type Logger, pino } from 'pino';

export interface KeptLog {
  readonly log: Logger;
  /** What was written, one JSON text each. */
  readonly lines: readonly string[];
}

/** Keeps everything that is logged, at whatever level. */
export function keepLog(): KeptLog {
  const lines: string[] = [];
  return { lines, log: pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }) };
}
