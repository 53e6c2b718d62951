/** TLS of the server itself: the certificate and key that it shows, read anew when their files change. */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureVersion, type Server } from 'node:tls';
import type { BaseLogger } from 'pino';
import { z } from 'zod';
import type { Fault } from '../errors.ts';
import { type Checked, FaultsError, fits } from '../schema.ts';

/** `application.tls`: two PEM files. */
export const tlsSettings = z.strictObject({
  certificate: z.string().min(1).describe('PEM file with the certificate, followed by those that vouch for it.'),
  key: z.string().min(1).describe('PEM file with its private key, without a passphrase.'),
});

export type TlsSettings = z.output<typeof tlsSettings>;

/** A certificate and the key that belongs to it, PEM. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** The oldest TLS that is spoken. */
export const minVersion: SecureVersion = 'TLSv1.2';

/** How often the files are looked at, in ms. */
const pace = 10_000;

/** How long before its end the log is told of a certificate, in ms. */
const soon = 14 * 24 * 3600_000;

/** Reads the pair; each fault names the setting, its file and what is wrong with it. */
export function readPair(settings: TlsSettings): Checked<Pair> {
  const certificate = readPem(settings.certificate, 'a certificate', (text) => new X509Certificate(text));
  const key = readPem(settings.key, 'a private key without a passphrase', createPrivateKey);
  if ('problem' in certificate || 'problem' in key) {
    return {
      faults: [
        ...('problem' in certificate ? [fault('certificate', certificate.problem)] : []),
        ...('problem' in key ? [fault('key', key.problem)] : []),
      ],
    };
  }
  if (!certificate.parsed.checkPrivateKey(key.parsed))
    return {
      faults: [fault('key', `the key in ${settings.key} is not that of the certificate in ${settings.certificate}`)],
    };
  const pair = { cert: certificate.text, key: key.text };
  try {
    createSecureContext({ ...pair, minVersion });
  } catch (error) {
    return { faults: [fault('certificate', `${settings.certificate} cannot be used: ${(error as Error).message}`)] };
  }
  return { value: pair, faults: [] };
}

function fault(setting: keyof TlsSettings, problem: string): Fault {
  return { field: `application.tls.${setting}`, problem };
}

function readPem<T>(
  file: string,
  what: string,
  parse: (text: string) => T,
): { readonly text: string; readonly parsed: T } | { readonly problem: string } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    return {
      problem: `the file ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'})`,
    };
  }
  try {
    return { text, parsed: parse(text) };
  } catch {
    return { problem: `the file ${file} does not hold ${what} in PEM form` };
  }
}

/** Reads the pair to begin with; throws FaultsError. */
export function openPair(settings: TlsSettings): Pair {
  const read = readPair(settings);
  if (!fits(read)) throw new FaultsError('the configuration', read.faults);
  return read.value;
}

export interface PairWatchOptions {
  readonly log: Pick<BaseLogger, 'info' | 'warn'>;
  /** Ms between two looks at the files. */
  readonly every?: number;
}

/**
 * Looks at the files of a server's pair again and again, however they are replaced, and has new connections get the new
 * one. A broken one, or half of a new one, leaves the old one in use; the log says so once when it stays like that.
 */
export class PairWatch {
  readonly #server: Pick<Server, 'setSecureContext'>;
  readonly #settings: TlsSettings;
  readonly #log: PairWatchOptions['log'];
  readonly #timer: NodeJS.Timeout;
  #inUse: Pair;
  /** What was wrong at the last look, and what the log was told of. */
  #problem = '';
  #told = '';
  /** The end of a certificate that the log was told of. */
  #warnedOf = '';

  constructor(
    server: Pick<Server, 'setSecureContext'>,
    settings: TlsSettings,
    inUse: Pair,
    { log, every = pace }: PairWatchOptions,
  ) {
    this.#server = server;
    this.#settings = settings;
    this.#log = log;
    this.#inUse = inUse;
    this.#timer = setInterval(() => this.#look(), every).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const read = readPair(this.#settings);
    const problem = read.faults.map(({ problem }) => problem).join('; ');
    if (!fits(read)) {
      // A file that is being written is broken for a moment.
      if (problem === this.#problem && problem !== this.#told) {
        this.#log.warn({ problem }, 'the new TLS certificate or key cannot be used; the one before stays in use');
        this.#told = problem;
      }
    } else if (read.value.cert !== this.#inUse.cert || read.value.key !== this.#inUse.key) {
      this.#server.setSecureContext({ ...read.value, minVersion });
      this.#inUse = read.value;
      const { validTo, fingerprint256: fingerprint } = new X509Certificate(read.value.cert);
      this.#log.info({ validTo, fingerprint }, 'new connections get the new TLS certificate');
    }
    this.#problem = problem;
    if (problem === '') this.#told = '';
    this.#warnOfEnd();
  }

  /** Clients refuse a certificate that has expired, and nothing else would tell. */
  #warnOfEnd(): void {
    const { validTo, validToDate } = new X509Certificate(this.#inUse.cert);
    if (validToDate.getTime() - Date.now() > soon || validTo === this.#warnedOf) return;
    this.#warnedOf = validTo;
    this.#log.warn(
      { file: this.#settings.certificate, validTo },
      'the TLS certificate ends soon, or has ended: renew it',
    );
  }
}
