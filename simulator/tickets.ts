/** Tickets and CSRF tokens, as PVE words them; the key lives and dies with the process. */

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const lifetime = 7200;
const clockSkew = 300;
const consoleLifetime = 40;
const consoleSkew = 20;
const challengePrefix = '!tfa!';

/** Whose console ticket it is, and for what. */
export interface ConsolePlace {
  readonly authid: string;
  /** `/vms/100` */
  readonly path: string;
  readonly port?: number;
}

/** Signs and verifies; times are seconds since 1970. */
export class Tickets {
  readonly #key = randomBytes(32);

  /** A ticket that signs `user` in for two hours. */
  issue(user: string, at: number): string {
    return this.#sign(user, at);
  }

  /** A ticket that only shows that the password was right: it is worth nothing without the second factor. */
  issueChallenge(user: string, at: number): string {
    return this.#sign(`${challengePrefix}{"recovery":null,"totp":true}`, at, user);
  }

  /** The user whom the ticket signs in now; undefined for anything that is not such a ticket. */
  verify(ticket: string, at: number): string | undefined {
    const data = this.#read(ticket, at);
    return data?.startsWith(challengePrefix) ? undefined : data;
  }

  /** Whether this is a challenge made for that user and still fresh. */
  verifyChallenge(ticket: string, user: string, at: number): boolean {
    return this.#read(ticket, at, user)?.startsWith(challengePrefix) ?? false;
  }

  /** A ticket that opens one port for one user or token, for forty seconds. */
  issueVnc(place: ConsolePlace, at: number): string {
    const plain = `PVEVNC:${hex(at)}`;
    return `${plain}::${this.#hmac(`${plain}:${placeText(place)}`)}`;
  }

  /** Eight characters that were put before the ticket do not matter. */
  verifyVnc(ticket: string, place: ConsolePlace, at: number): boolean {
    const [, plain = '', time = '', signature = ''] = /^(?:.{8}:)?(PVEVNC:([0-9A-F]{8}))::(.*)$/.exec(ticket) ?? [];
    const valid = equal(signature, this.#hmac(`${plain}:${placeText(place)}`));
    return valid && isFresh(time, at, consoleLifetime, consoleSkew);
  }

  /** Bound to the user alone, not to a ticket. */
  issueCsrf(user: string, at: number): string {
    const time = hex(at);
    return `${time}:${this.#hmac(`${time}:${user}`)}`;
  }

  verifyCsrf(token: string, user: string, at: number): boolean {
    const [, time = '', signature = ''] = /^([0-9A-F]{8}):(.*)$/.exec(token) ?? [];
    return isFresh(time, at) && equal(signature, this.#hmac(`${time}:${user}`));
  }

  #sign(data: string, at: number, secret?: string): string {
    const plain = `PVE:${escapeColons(data)}:${hex(at)}`;
    return `${plain}::${this.#hmac(withSecret(plain, secret))}`;
  }

  #read(ticket: string, at: number, secret?: string): string | undefined {
    const [, plain = '', data = '', time = '', signature = ''] =
      /^(PVE:([^:]*):([0-9A-F]{8}))::(.*)$/.exec(ticket) ?? [];
    const valid = isFresh(time, at) && equal(signature, this.#hmac(withSecret(plain, secret)));
    return valid ? unescapeColons(data) : undefined;
  }

  #hmac(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('base64').replace(/=+$/, '');
  }
}

function isFresh(time: string, at: number, most = lifetime, skew = clockSkew): boolean {
  const age = at - Number.parseInt(time, 16);
  return age > -skew && age < most;
}

function placeText({ authid, path, port }: ConsolePlace): string {
  return port === undefined ? `${authid}:${path}` : `${authid}:${path}:${port}`;
}

function withSecret(plain: string, secret: string | undefined): string {
  return secret === undefined ? plain : `${plain}:${secret}`;
}

function equal(given: string, expected: string): boolean {
  const [left, right] = [Buffer.from(given), Buffer.from(expected)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function hex(seconds: number): string {
  return Math.floor(seconds).toString(16).toUpperCase().padStart(8, '0');
}

function escapeColons(data: string): string {
  return data.replace(/[%:]/g, (character) => (character === ':' ? '%3A' : '%25'));
}

function unescapeColons(data: string): string {
  return data.replace(/%(3A|25)/g, (_, code) => (code === '3A' ? ':' : '%'));
}
