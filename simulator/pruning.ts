/** Which backups of a guest stay: PVE's keep rules. */

import { backupType } from './archives.ts';
import type { Cluster } from './cluster.ts';
import type { Guest, StorageDefinition, Volume } from './model.ts';
import { type Property, PropertyError, type PropertyFormat, parseProperties } from './property-string.ts';
import { parameterError } from './pve-error.ts';

export interface PruneRow {
  readonly volume: Volume;
  readonly type: Guest['type'];
  readonly mark: 'keep' | 'remove' | 'protected';
}

const count: Property = { type: 'integer', minimum: 0 };
const keepFormat: PropertyFormat = {
  properties: {
    'keep-all': { type: 'boolean' },
    ...Object.fromEntries(
      ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'].map((span) => [`keep-${span}`, count]),
    ),
  },
};

export type KeepRules = Readonly<Record<string, string>>;

/** `keep-last=3,keep-daily=7` as rules; a text that is none is a 400. */
export function parseKeepRules(text: string): KeepRules {
  try {
    return parseProperties(keepFormat, text);
  } catch (error) {
    if (error instanceof PropertyError) throw parameterError({ 'prune-backups': error.message });
    throw error;
  }
}

/** Nothing is ever removed. */
function keepsAll(rules: KeepRules): boolean {
  return (
    rules['keep-all'] === '1' || !Object.entries(rules).some(([key, value]) => key !== 'keep-all' && Number(value) > 0)
  );
}

/** How many backups of a guest the rules leave at most. */
export function mostKept(rules: KeepRules): number {
  if (keepsAll(rules)) return Number.POSITIVE_INFINITY;
  return Object.entries(rules).reduce((sum, [key, value]) => sum + (key === 'keep-all' ? 0 : Number(value)), 0);
}

const spans: readonly (readonly [string, (time: Date) => string])[] = [
  ['keep-last', (time) => time.toISOString()],
  ['keep-hourly', (time) => time.toISOString().slice(0, 13)],
  ['keep-daily', (time) => time.toISOString().slice(0, 10)],
  ['keep-weekly', weekOf],
  ['keep-monthly', (time) => time.toISOString().slice(0, 7)],
  ['keep-yearly', (time) => time.toISOString().slice(0, 4)],
];

/** The Monday that begins it. */
function weekOf(time: Date): string {
  const monday = new Date(time);
  monday.setUTCDate(time.getUTCDate() - ((time.getUTCDay() + 6) % 7));
  return monday.toISOString().slice(0, 10);
}

/** What the rules say of each backup, guest by guest; protected ones stay and do not count. */
export function pruneRows(backups: readonly Volume[], rules: KeepRules): readonly PruneRow[] {
  const groups = Map.groupBy(backups, ({ volid, vmid }) => `${backupType(volid)} ${vmid}`);
  return [...groups.values()].flatMap((group) => {
    const kept = keptOf(
      group.filter((volume) => !volume.protected),
      rules,
    );
    return group.map((volume): PruneRow => {
      const mark = volume.protected ? 'protected' : kept.has(volume) ? 'keep' : 'remove';
      return { volume, type: backupType(volume.volid) ?? 'qemu', mark };
    });
  });
}

/** Rule by rule the newest of each span, in spans of which nothing has been kept yet. */
function keptOf(group: readonly Volume[], rules: KeepRules): ReadonlySet<Volume> {
  if (keepsAll(rules)) return new Set(group);
  const newestFirst = [...group].sort((a, b) => b.ctime - a.ctime);
  const kept = new Set<Volume>();
  const passed = new Set<Volume>();
  for (const [name, spanOf] of spans) {
    const span = ({ ctime }: Volume) => spanOf(new Date(ctime * 1000));
    const covered = new Set([...kept].map(span));
    const fresh = new Set<string>();
    for (const volume of newestFirst) {
      if (kept.has(volume) || passed.has(volume) || covered.has(span(volume))) continue;
      if (fresh.has(span(volume))) {
        passed.add(volume);
        continue;
      }
      if (fresh.size >= Number(rules[name] ?? 0)) break;
      fresh.add(span(volume));
      kept.add(volume);
    }
  }
  return kept;
}

/** The backups on a storage as a node sees it, all or those of one guest or kind. */
export function backupsOn(
  cluster: Cluster,
  definition: StorageDefinition,
  node: string,
  { vmid, type }: { readonly vmid?: number | undefined; readonly type?: string | undefined },
): readonly Volume[] {
  return cluster.volumes
    .onStorage(definition, node)
    .filter(({ content, volid }) => content === 'backup' && backupType(volid) !== undefined)
    .filter((volume) => vmid === undefined || volume.vmid === vmid)
    .filter(({ volid }) => type === undefined || backupType(volid) === type);
}

const mostProtected = 5;

/** How many protected backups of one guest the caller may have on a storage: five, or any number with Datastore.Allocate. */
export function isProtectionLeft(backups: readonly Volume[], isMaster: boolean): boolean {
  return isMaster || backups.filter((volume) => volume.protected).length < mostProtected;
}

export function protectionFault(storage: string): string {
  return `The number of protected backups per guest is limited to ${mostProtected} on storage '${storage}'`;
}
