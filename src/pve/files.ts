/** Files on a storage that belong to no guest: how PVE names them. */

import type { Instance } from './instance.ts';

/** PVE's kinds of such files. */
const fileKinds = ['iso', 'vztmpl', 'import', 'snippets'] as const;

export type FileKind = (typeof fileKinds)[number];

/** Those that PVE takes through its API; snippets have to be put there by hand. */
export const sentKinds = ['iso', 'vztmpl', 'import'] as const;

export type SentKind = (typeof sentKinds)[number];

/** How PVE tells them by their names. */
const endings: Readonly<Record<SentKind, RegExp>> = {
  iso: /.\.(?:iso|img)$/i,
  vztmpl: /.\.tar(?:\.(?:gz|xz|zst|bz2))?$/i,
  import: /.\.(?:ova|ovf|qcow2|raw|vmdk)$/,
};

/** The longest name that PVE takes. */
const longestName = 255;

/** The name under which PVE keeps a file: without folders, and each character but ASCII letters, digits, `_`, `.` and `-` as `_`. */
export function normalisedName(name: string): string {
  return name.replace(/^.*[/\\]/s, '').replace(/[^A-Za-z0-9_.-]/g, '_');
}

/** What is wrong with a name for a file of a kind, or null when PVE takes it. */
export function faultOfName(kind: SentKind, name: string): string | null {
  if (name.length > longestName) return `must be at most ${longestName} characters long`;
  return endings[kind].test(normalisedName(name))
    ? null
    : `${JSON.stringify(name)} has no ending that PVE takes for ${kind}`;
}

/** The volume id of a file that is put on a storage. */
export function fileVolid(storage: string, kind: SentKind, name: string): string {
  return `${storage}:${kind}/${normalisedName(name)}`;
}

/** Whether a kind of content is of no guest. */
export function isFileKind(content: unknown): content is FileKind {
  return fileKinds.some((kind) => kind === content);
}

/** The instance with a file of this length, in the place of what it had under that volume id. */
export function withFile(before: Instance, volid: string, bytes: number): Instance {
  const storage = volid.slice(0, volid.indexOf(':'));
  return { ...before, volumes: new Map(before.volumes).set(volid, { volid, storage, bytes, format: '' }) };
}
