/** The certificate of a simulated node: self-signed, as PVE's are, and made anew at every start. */

import { X509Certificate } from 'node:crypto';
import { generate } from 'selfsigned';

export interface Certificate {
  /** PEM. */
  readonly key: string;
  /** PEM; it is its own authority. */
  readonly certificate: string;
  /** SHA-256, upper-case hex with colons. */
  readonly fingerprint: string;
}

/** For `localhost`, the loopback addresses, and the host that is listened on. */
export async function makeCertificate(host: string): Promise<Certificate> {
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          ...[...new Set(['127.0.0.1', '::1', host])].map((address) =>
            /^[0-9.]+$|:/.test(address) ? { type: 7 as const, ip: address } : { type: 2 as const, value: address },
          ),
        ],
      },
    ],
  });
  return { key: made.private, certificate: made.cert, fingerprint: new X509Certificate(made.cert).fingerprint256 };
}
