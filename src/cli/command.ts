/** What a command of the command line is. */

/** The words of a command line, sorted. */
export interface Invocation {
  /** What follows the command's name. */
  readonly args: readonly string[];
  readonly configFile: string;
  readonly dryRun: boolean;
  /** A file that holds the schema of PVE's API. */
  readonly schema?: string | undefined;
  print(line: string): void;
}

export interface Command {
  /** One word or two. */
  readonly name: string;
  /** What follows the name, for `--help`. */
  readonly usage: string;
  readonly summary: string;
  /** Returns the exit code; throws UsageError when the words make no sense. */
  run(invocation: Invocation): Promise<number> | number;
}

/** The command line makes no sense; the message says what was expected. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
