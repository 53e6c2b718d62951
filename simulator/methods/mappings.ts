/** `/cluster/mapping`: names of the cluster for devices of its hosts. */

import { createHash } from 'node:crypto';
import type { Context, MethodRow, Permissions, Schema } from '../method.ts';
import type { PciMapping } from '../model.ts';
import { splitList } from '../named-formats.ts';
import { digest, flag, named } from '../parameters.ts';
import { alternativesOn, faultOfAlternative, mappingFormat } from '../pci.ts';
import { may } from '../permit.ts';
import { PropertyError, parseProperties, printProperties } from '../property-string.ts';
import { PveError, parameterError } from '../pve-error.ts';

const uses = ['Mapping.Use', 'Mapping.Modify', 'Mapping.Audit'];
const list = '/cluster/mapping/pci';
const one = `${list}/{id}`;
const modifies: Permissions = { check: ['perm', '/mapping/pci', ['Mapping.Modify']] };
const id: Schema = { type: 'string', format: 'pve-configid' };
const fields = {
  description: { type: 'string', optional: true, maxLength: 4096 },
  'live-migration-capable': flag,
  mdev: flag,
} satisfies Record<string, Schema>;

/** SHA-1 over all mappings: they are one file. */
function digestOf({ cluster }: Context): string {
  return createHash('sha1')
    .update(JSON.stringify([...cluster.pciMappings.values()]))
    .digest('hex');
}

function mappingOf({ cluster, param }: Context): PciMapping {
  const mapping = cluster.pciMappings.get(String(param.id));
  if (mapping === undefined) throw new PveError(500, `pci mapping '${param.id}' does not exist`);
  return mapping;
}

function shown({ map, description, mdev, 'live-migration-capable': live }: PciMapping): Record<string, unknown> {
  return {
    map,
    ...(description === undefined ? {} : { description }),
    ...(mdev === undefined ? {} : { mdev: mdev ? 1 : 0 }),
    ...(live === undefined ? {} : { 'live-migration-capable': live ? 1 : 0 }),
  };
}

/** Those that the caller may use or look at; with a node also what is wrong with them there. */
function listMappings(context: Context): unknown {
  const { cluster, param } = context;
  const seen = [...cluster.pciMappings.values()].filter((mapping) =>
    may(context, `/mapping/pci/${mapping.id}`, uses, true),
  );
  const node = param['check-node'];
  return seen.map((mapping) => ({
    ...{ id: mapping.id, type: 'pci', digest: digestOf(context), ...shown(mapping) },
    ...(node === undefined ? {} : { checks: checksOf(context, mapping, String(node)) }),
  }));
}

function checksOf({ cluster }: Context, mapping: PciMapping, name: string) {
  const node = cluster.nodes.get(name);
  const here = alternativesOn(mapping, name);
  if (node === undefined || here.length === 0)
    return [{ severity: 'warning', message: `No mapping for node ${name}.` }];
  return here
    .map((alternative) => faultOfAlternative(node, alternative))
    .filter((fault) => fault !== undefined)
    .map((fault) => ({ severity: 'error', message: `Invalid configuration: ${fault}` }));
}

/** The alternatives reprinted; one that is not of the form is a 400. */
function alternatives(map: unknown): readonly string[] {
  return [map].flat().map((text, index) => {
    try {
      return printProperties(mappingFormat, parseProperties(mappingFormat, String(text)));
    } catch (error) {
      if (error instanceof PropertyError) throw parameterError({ [`map[${index}]`]: error.message });
      throw error;
    }
  });
}

function given({ param }: Context): Partial<PciMapping> {
  return {
    ...(param.map === undefined ? {} : { map: alternatives(param.map) }),
    ...(param.description === undefined ? {} : { description: String(param.description) }),
    ...(param.mdev === undefined ? {} : { mdev: param.mdev === 1 }),
    ...(param['live-migration-capable'] === undefined
      ? {}
      : { 'live-migration-capable': param['live-migration-capable'] === 1 }),
  };
}

function createMapping(context: Context): null {
  const { cluster, param } = context;
  const name = String(param.id);
  if (cluster.pciMappings.has(name)) throw new PveError(500, `pci ID '${name}' already defined`);
  cluster.pciMappings.set(name, { map: [], ...given(context), id: name });
  return null;
}

function updateMapping(context: Context): null {
  const { cluster, param } = context;
  const before = mappingOf(context);
  if (param.digest !== undefined && param.digest !== digestOf(context)) {
    throw new PveError(500, 'detected modified configuration - file changed by other user? Try again.');
  }
  const removed = splitList(param.delete);
  const unknown = removed.find((key) => !(key in fields));
  if (unknown !== undefined) throw parameterError({ delete: `cannot delete '${unknown}'` });
  const kept = Object.fromEntries(Object.entries(before).filter(([key]) => !removed.includes(key)));
  cluster.pciMappings.set(before.id, { ...(kept as typeof before), ...given(context) });
  return null;
}

export const mappingMethods: readonly MethodRow[] = [
  {
    method: 'GET',
    path: '/cluster/mapping',
    permissions: { user: 'all' },
    parameters: {},
    run: () => [{ name: 'pci' }],
  },
  {
    method: 'GET',
    path: list,
    permissions: { user: 'all' },
    parameters: { 'check-node': named('pve-node') },
    run: listMappings,
  },
  {
    method: 'POST',
    path: list,
    permissions: modifies,
    parameters: { id, map: { type: 'array' }, ...fields },
    run: createMapping,
  },
  {
    method: 'GET',
    path: one,
    permissions: { check: ['or', ...uses.map((privilege) => ['perm', '/mapping/pci/{id}', [privilege]])] },
    parameters: { id },
    run: (context) => ({ ...shown(mappingOf(context)), digest: digestOf(context) }),
  },
  {
    method: 'PUT',
    path: one,
    permissions: { check: ['perm', '/mapping/pci/{id}', ['Mapping.Modify']] },
    parameters: {
      id,
      map: { type: 'array', optional: true },
      ...fields,
      delete: { ...named('pve-configid-list'), maxLength: 4096 },
      digest: { ...digest, maxLength: 64 },
    },
    run: updateMapping,
  },
  {
    method: 'DELETE',
    path: one,
    permissions: modifies,
    parameters: { id },
    run({ cluster, param }) {
      cluster.pciMappings.delete(String(param.id));
    },
  },
];
