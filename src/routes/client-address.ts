/** Whose address a request counts for, also where web servers in front hand it on. */

import { BlockList, isIP } from 'node:net';
import { remembering } from './remembering.ts';

/** Addresses of which it is remembered where they belong. */
const most = 1000;

/** Finds a client's address from that of the connection and what `X-Forwarded-For` tells. */
export type AddressOf = (remote: string, told: string | string[] | undefined) => string;

/** Tells whether an address is one of these, or in one of these networks, such as `10.0.0.0/8`. */
export function isAmong(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix] = network.split('/');
    const family = familyOf(address);
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return remembering(most, (address) => isIP(address) !== 0 && list.check(address, familyOf(address)));
}

/** Finds the nearest address that is not trusted, or the farthest one told: the one that Fastify finds. */
export function addressBehind(isTrusted: (address: string) => boolean): AddressOf {
  return (remote, told) => {
    if (told === undefined || !isTrusted(remote)) return remote;
    let address = remote;
    for (const farther of String(told).split(',').reverse()) {
      const next = farther.replace(/^[ \t]+|[ \t]+$/g, '');
      if (next === '') continue;
      if (!isTrusted(address)) break;
      address = next;
    }
    return address;
  };
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 4 ? 'ipv4' : 'ipv6';
}
