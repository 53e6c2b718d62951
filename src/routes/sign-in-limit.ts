/** How often one may fail to sign in. */

import { isIPv6 } from 'node:net';
import { NotReadyError, TooManyRequestsError } from '../errors.ts';
import { Slots } from '../pve/slots.ts';

export interface SignInLimitOptions {
  /** Failures of one user name from one network within the window. */
  readonly perUser?: number;
  /** Failures from one network within the window. */
  readonly perNetwork?: number;
  /** Milliseconds. */
  readonly window?: number;
  /** Names and networks remembered; beyond that the ones longest without a failure are forgotten. */
  readonly capacity?: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

/** Sign-ins at PVE at a time, how many of them from one network, and how many may wait for that. */
const width = 16;
const share = 4;
const queue = 256;

/**
 * Counts failed sign-ins by user and network and by network, never by user alone: failing on purpose from elsewhere
 * locks nobody out. An attempt counts while it is under way, so that many at once do not slip through.
 */
export class SignInLimit {
  readonly #failures = new Map<string, readonly number[]>();
  readonly #perUser: number;
  readonly #perNetwork: number;
  readonly #window: number;
  readonly #capacity: number;
  readonly #now: () => number;
  readonly #turns = new Slots(width, queue, share);

  constructor({
    perUser = 10,
    perNetwork = 100,
    window = 300_000,
    capacity = 20_000,
    now = () => performance.now(),
  }: SignInLimitOptions = {}) {
    this.#perUser = perUser;
    this.#perNetwork = perNetwork;
    this.#window = window;
    this.#capacity = capacity;
    this.#now = now;
  }

  /** Counts an attempt as failed, or throws TooManyRequestsError; the function returned takes it back when it has not failed. */
  attempt(user: string, address: string): () => void {
    const network = networkOf(address);
    const counted = [
      { key: network, limit: this.#perNetwork },
      // PVE overlooks a line break at the end.
      { key: `${network}\n${user.trim().toLowerCase()}`, limit: this.#perUser },
    ];
    const now = this.#now();
    const waits = counted.map(({ key, limit }) => {
      const free = this.#recent(key, now).at(-limit);
      return free === undefined ? 0 : free + this.#window - now;
    });
    const wait = Math.ceil(Math.max(...waits) / 1000);
    if (wait > 0) throw new TooManyRequestsError(`Too many failed sign-ins; try again in ${wait} s`, wait);
    for (const { key } of counted) this.#put(key, [...this.#recent(key, now), now]);
    return () => {
      for (const { key } of counted) {
        const times = this.#failures.get(key) ?? [];
        this.#put(key, times.toSpliced(times.indexOf(now), times.includes(now) ? 1 : 0));
      }
    };
  }

  /** Runs a sign-in when its network's turn comes: PVE takes seconds to refuse one, which is not to hold up others. */
  async inTurn<T>(address: string, signIn: () => Promise<T>): Promise<T> {
    const network = networkOf(address);
    if (this.#turns.isFullFor(network))
      throw new NotReadyError('Too many sign-ins wait for PVE to check them; try again in a moment', 2);
    return this.#turns.run(signIn, undefined, network);
  }

  #recent(key: string, now: number): readonly number[] {
    return (this.#failures.get(key) ?? []).filter((time) => time > now - this.#window);
  }

  #put(key: string, times: readonly number[]): void {
    this.#failures.delete(key);
    if (times.length > 0) this.#failures.set(key, times);
    if (this.#failures.size <= this.#capacity) return;
    const [oldest] = this.#failures.keys();
    if (oldest !== undefined) this.#failures.delete(oldest);
  }
}

/** The network that one party is likely to control as a whole: an IPv4 address, or the /64 of an IPv6 address. */
export function networkOf(address: string): string {
  if (/^[\d.]+$/.test(address)) return address;
  const [bare = ''] = address.toLowerCase().split('%');
  const v4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare)?.[1];
  if (v4 !== undefined || !isIPv6(bare)) return v4 ?? bare;
  const [head = '', tail] = bare.replace(/\d+\.\d+\.\d+\.\d+$/, '0:0').split('::');
  const groups = (text: string): readonly string[] => (text === '' ? [] : text.split(':'));
  const [left, right] = [groups(head), groups(tail ?? '')];
  const zeros = Array<string>(8 - left.length - right.length).fill('0');
  const prefix = [...left, ...zeros, ...right].slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${prefix.join(':')}::/64`;
}
