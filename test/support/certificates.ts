/** Certificates for tests, each its own authority. */

import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generate } from 'selfsigned';

export interface CertificateFiles {
  /** The files' names, as `application.tls` takes them. */
  readonly settings: { readonly certificate: string; readonly key: string };
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
}

/** Writes a new pair for `localhost` and the loopback into a folder, over the one that is there; it is good for a year unless `until` says otherwise. */
export async function writePair(folder: string, until?: Date): Promise<CertificateFiles> {
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    ...(until && { notAfterDate: until }),
    extensions: [
      { name: 'basicConstraints', cA: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  });
  const settings = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
  await replaceFile(settings.certificate, made.cert);
  await replaceFile(settings.key, made.private);
  return { settings, certificate: made.cert, key: made.private };
}

/** Writes a file that nobody ever sees half of. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}
