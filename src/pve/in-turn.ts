/** Which host gets a request, and when it is tried again. */

import { Client } from 'undici';
import { UpstreamBrokenError, UpstreamUnreachableError } from '../errors.ts';
import type { Host, Hosts } from './hosts.ts';

export interface Attempts<T> {
  /** Whether the request may be made once more although a host had it. */
  readonly repeatable: boolean;
  /** Whether there is no time left for another attempt. */
  isOver(): boolean;
  /** Throws UpstreamUnreachableError when the host has seen nothing of the request. */
  attempt(host: Host, repeated: boolean): Promise<T>;
}

/** Goes from host to host as long as nothing has been sent; what may be repeated is, once. */
export async function inTurn<T>(hosts: Hosts, { repeatable, isOver, attempt }: Attempts<T>): Promise<T> {
  const [first, ...others] = hosts.inOrder();
  let host = first;
  let repeated = false;
  while (host !== undefined) {
    try {
      return await attempt(host, repeated);
    } catch (error) {
      const unsent = error instanceof UpstreamUnreachableError;
      const again: boolean = repeatable && error instanceof UpstreamBrokenError && !repeated;
      // Who waited in vain for a connection of their share has found out nothing about the host.
      if (!(unsent && isOver())) hosts.avoid(host, error);
      const next = others.shift();
      if (isOver() || !(again || (unsent && next !== undefined))) throw error;
      repeated ||= again;
      host = next ?? host;
    }
  }
  throw new TypeError('no PVE host is configured');
}

/** A client with one connection of its own, for what must not go over a kept one, which may be closing. */
export function ownClient(
  hosts: Hosts,
  { origin }: Host,
  options: Client.Options,
  onConnect: () => void = () => {},
): Client {
  return new Client(origin, {
    ...options,
    connect: (options, done) =>
      hosts.connect(options, (...outcome) => {
        if (outcome[0] === null) onConnect();
        done(...outcome);
      }),
  });
}
