/** The log of the process: what lasts is told now and again instead of each time, and what was foreseen without its stack. */

import { type DestinationStream, type LogFn, type Logger, pino } from 'pino';
import { ApiError } from './errors.ts';

const warning = 40;

/** For so many ms a warning is not written again. */
const silence = 300_000;

/** How many different warnings are remembered; then all of them may be written once more. */
const remembered = 10_000;

/**
 * A log of JSON lines. While the same warning (message, error and fields) comes again and again it is written every five
 * minutes, with `times`: how often it came since. `now` is monotonic, in ms.
 */
export function makeLog(destination: DestinationStream, now: () => number = () => performance.now()): Logger {
  const told = new Map<string, { at: number; times: number }>();
  return pino(
    {
      serializers: { err: described },
      hooks: {
        logMethod([given, ...more]: unknown[], method: LogFn, level) {
          const first = given instanceof Error ? { err: given } : given;
          const write = (fields: unknown) => Reflect.apply(method, this, [fields, ...more]);
          if (level !== warning) return write(first);
          const key = [String(first), ...Object.values(Object(first)), ...more].join('\n');
          const last = told.get(key);
          if (last !== undefined && now() - last.at < silence) {
            last.times += 1;
            return;
          }
          if (told.size >= remembered) told.clear();
          told.set(key, { at: now(), times: 1 });
          write(last === undefined || typeof first !== 'object' ? first : { ...first, times: last.times });
        },
      },
    },
    destination,
  );
}

/** An error of ours says all by its message; of any other it matters where it came from. */
function described(error: Error): object {
  return error instanceof ApiError ? { type: error.name, message: error.message } : pino.stdSerializers.err(error);
}
