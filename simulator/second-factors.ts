/** What is asked for after the password: codes that change with the time, and keys that work once. */

import { createHmac, randomBytes } from 'node:crypto';

export interface SecondFactor {
  readonly id: string;
  readonly type: 'totp' | 'recovery';
  /** Seconds since 1970. */
  readonly created: number;
  readonly description: string;
  readonly enable: boolean;
  /** Whether this opens it now; a recovery key is used up by being asked about. */
  readonly accepts: (value: string, seconds: number) => boolean;
}

/** A factor with a code that never changes: what tests agree on. */
export function fixedCode(code: string, created: number): SecondFactor {
  return { id: 'code', type: 'totp', created, description: '', enable: true, accepts: (value) => value === code };
}

/** A factor of the secret in an `otpauth://` address; undefined when it holds none. */
export function totpFactor(
  address: string,
  about: Pick<SecondFactor, 'id' | 'created' | 'description'>,
): SecondFactor | undefined {
  const secret = URL.canParse(address) ? new URL(address).searchParams.get('secret') : null;
  if (!address.startsWith('otpauth://totp/') || secret === null || !/^[A-Z2-7]+=*$/i.test(secret)) return undefined;
  const key = base32(secret);
  // A code of the period before or after is as good: clocks differ.
  const accepts = (value: string, seconds: number) =>
    [-30, 0, 30].some((shift) => codeAt(key, seconds + shift) === value);
  return { ...about, type: 'totp', enable: true, accepts };
}

/** Ten keys, each of which opens once. */
export function recoveryFactor(created: number): { readonly factor: SecondFactor; readonly keys: readonly string[] } {
  const keys = Array.from({ length: 10 }, () =>
    randomBytes(8)
      .toString('hex')
      .replace(/(....)(?=.)/g, '$1-'),
  );
  const left = new Set(keys);
  const factor: SecondFactor = {
    ...{ id: 'recovery', type: 'recovery', created, description: '', enable: true },
    accepts: (value) => left.delete(value),
  };
  return { factor, keys };
}

/** Six digits for the half minute, of the secret in base32. */
export function totpCode(secret: string, seconds: number): string {
  return codeAt(base32(secret), seconds);
}

function codeAt(key: Buffer, seconds: number): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.max(0, Math.floor(seconds / 30))));
  const hash = createHmac('sha1', key).update(counter).digest();
  const number = hash.readUInt32BE((hash.at(-1) ?? 0) & 0x0f) & 0x7fff_ffff;
  return String(number % 1_000_000).padStart(6, '0');
}

function base32(text: string): Buffer {
  const digits = [...text.toUpperCase().replace(/=+$/, '')].map((char) =>
    'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(char),
  );
  const bits = digits.map((digit) => digit.toString(2).padStart(5, '0')).join('');
  const bytes = bits.match(/.{8}/g) ?? [];
  return Buffer.from(bytes.map((byte) => Number.parseInt(byte, 2)));
}
