/** What the configuration says of the PVE API that calls are forwarded to. */

import { z } from 'zod';
import { expected } from '../schema.ts';
import { secret } from '../secret.ts';

const name = (what: string) => z.string().regex(/^[\x21-\x7e]+$/, { error: expected(`${what} without blanks`) });

const hostUrl = z
  .string()
  .refine((text) => originOf(text) !== null, {
    error: expected('a URL such as https://pve1.example.org:8006/api2/json'),
  })
  .transform((text) => originOf(text) ?? text);

const seconds = z.number().min(0.05).max(3600);

/** The configuration of a `pve` backend. */
export const upstreamSettings = z
  .strictObject({
    url: z
      .union([hostUrl, z.array(hostUrl).min(1)])
      .describe('Base URL of the PVE API, or those of several hosts of one cluster.'),
    token: z
      .strictObject({
        user: name('a user name'),
        realm: name('a realm'),
        id: name('the name of an API token'),
        uuid: secret
          .refine((text) => /^[\x21-\x7e]+$/.test(text.reveal()), 'expected a secret without blanks')
          .describe('The secret of the API token.'),
      })
      .describe('The privileged API token.'),
    root: z
      .strictObject({ username: name('a user name'), password: secret })
      .optional()
      .describe('root@pam, needed only for raw PCI devices, which PVE gives to nobody else.'),
    fabric: z.unknown().optional().describe('Accepted from older files and ignored.'),
    ca: z.string().min(1).optional().describe('PEM file with the certificate authority of the hosts.'),
    fingerprint: z
      .string()
      .regex(/^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$/, {
        error: expected('a SHA-256 fingerprint, 64 hexadecimal digits'),
      })
      .optional()
      .describe('SHA-256 fingerprint of the only certificate to accept, self-signed or not.'),
    deadlines: z
      .strictObject({ read: seconds.default(10), write: seconds.default(35), connect: seconds.default(3) })
      .prefault({})
      .describe('Seconds after which a call is given up.'),
    connections: z
      .int()
      .min(1)
      .max(500)
      .default(32)
      .describe('Most connections to one host, for reads and for writes each.'),
  })
  .refine(
    ({ url, fingerprint }) => fingerprint === undefined || [url].flat().every((origin) => origin.startsWith('https:')),
    {
      path: ['fingerprint'],
      error: 'only https URLs have a certificate that could be checked',
    },
  );

export type UpstreamSettings = z.output<typeof upstreamSettings>;

/** `https://host:8006` of a URL of the API, with or without its path; null for any other text. */
function originOf(text: string): string | null {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || !/^(\/api2\/json)?\/?$/.test(url.pathname)) return null;
  return url.username || url.password || url.search || url.hash ? null : url.origin;
}
