import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MethodRow, Schema } from '../../../simulator/method.ts';
import { PveError } from '../../../simulator/pve-error.ts';
import { verifyParameters } from '../../../simulator/schema.ts';

const parameters: Readonly<Record<string, Schema>> = {
  cores: { type: 'integer', optional: true, minimum: 1 },
  vmid: { type: 'integer', optional: true, format: 'pve-vmid', minimum: 100 },
  cpulimit: { type: 'number', optional: true, minimum: 0, maximum: 128 },
  onboot: { type: 'boolean', optional: true },
  delete: { type: 'string', optional: true, format: 'pve-configid-list' },
  vms: { type: 'array', optional: true },
  name: { type: 'string', optional: true, maxLength: 4 },
  kind: { type: 'string', optional: true, enum: ['a', 'b'] },
  storage: { type: 'string', optional: true, format: 'pve-storage-id' },
  'net[n]': { type: 'string', optional: true, count: 32 },
  'old-name': { type: 'string', optional: true, alias: 'name' },
  append: { type: 'boolean', optional: true, requires: 'name' },
};
const row: MethodRow = { method: 'PUT', path: '/x', permissions: { user: 'all' }, parameters, run: () => null };

function verify(given: Readonly<Record<string, unknown>>, of = row) {
  return verifyParameters(of, new Map(Object.entries(given)));
}

function faultsOf(given: Readonly<Record<string, unknown>>, of = row): unknown {
  try {
    verify(given, of);
  } catch (error) {
    if (error instanceof PveError) return error.errors;
    throw error;
  }
  return undefined;
}

describe('PVE takes', () => {
  test.each<[Record<string, unknown>, Record<string, unknown>]>([
    [{ cores: '4' }, { cores: 4 }],
    [{ cores: '+4' }, { cores: 4 }],
    [{ cores: '004' }, { cores: 4 }],
    [{ cores: '4\n' }, { cores: 4 }],
    [{ cores: 4 }, { cores: 4 }],
    [{ cpulimit: '1e1' }, { cpulimit: 10 }],
    [{ cpulimit: '.5' }, { cpulimit: 0.5 }],
    [{ cpulimit: '5.' }, { cpulimit: 5 }],
    [{ onboot: '0' }, { onboot: 0 }],
    [{ onboot: true }, { onboot: 1 }],
    [{ onboot: 1 }, { onboot: 1 }],
    [{ delete: 'ide2,net0;scsi1 boot' }, { delete: 'ide2,net0;scsi1 boot' }],
    [{ delete: ['ide2', 'net0'] }, { delete: 'ide2,net0' }],
    [{ vms: '100' }, { vms: ['100'] }],
    [{ vms: ['100', '101'] }, { vms: ['100', '101'] }],
    [{ name: 1.5 }, { name: '1.5' }],
    [{ name: undefined }, {}],
    [{ net31: 'x' }, { net31: 'x' }],
    [{ 'old-name': 'x' }, { name: 'x' }],
    [
      { append: '1', name: 'x' },
      { append: 1, name: 'x' },
    ],
  ])('%j', (given, expected) => {
    expect(verify(given)).toEqual(expected);
  });
});

describe('PVE refuses', () => {
  test.each<[Record<string, unknown>, Record<string, string>]>([
    [{ cores: '0x10' }, { cores: "type check ('integer') failed - got '0x10'" }],
    [{ cores: '1e3' }, { cores: "type check ('integer') failed - got '1e3'" }],
    [{ cores: '' }, { cores: "type check ('integer') failed - got ''" }],
    [{ cores: '4 ' }, { cores: "type check ('integer') failed - got '4 '" }],
    [{ cores: ['4', '5'] }, { cores: "type check ('integer') failed - got ARRAY" }],
    [{ cores: { a: 1 } }, { cores: "type check ('integer') failed - got HASH" }],
    [{ cores: '0' }, { cores: 'value must have a minimum value of 1' }],
    [{ cores: '٤' }, { cores: 'value must have a minimum value of 1' }],
    [{ cpulimit: 'NaN' }, { cpulimit: "type check ('number') failed - got 'NaN'" }],
    [{ cpulimit: 'Infinity' }, { cpulimit: "type check ('number') failed - got 'Infinity'" }],
    [{ cpulimit: '129' }, { cpulimit: 'value must have a maximum value of 128' }],
    [{ onboot: 'yes' }, { onboot: "type check ('boolean') failed - got 'yes'" }],
    [{ vmid: '0100' }, { vmid: 'invalid format - value does not look like a valid VM ID\n' }],
    [{ name: 'abcde' }, { name: 'value may only be 4 characters long' }],
    [{ kind: 'c' }, { kind: "value 'c' does not have a value in the enumeration 'a, b'" }],
    [{ storage: 's' }, { storage: 'invalid format - value does not look like a valid storage ID\n' }],
    [{ delete: 'a,!b' }, { delete: 'invalid format - invalid configuration ID\n' }],
    [{ append: '1' }, { name: "missing property - 'append' requires this property" }],
  ])('%j', (given, expected) => {
    expect(faultsOf(given)).toEqual(expected);
  });

  test.each(['other', 'net32', 'net', 'net01', '', '__proto__'])('the unknown parameter %j', (name) => {
    const unknown = 'property is not defined in schema and the schema does not allow additional properties';
    expect(faultsOf(Object.fromEntries([[name, undefined]]))).toEqual(Object.fromEntries([[name, unknown]]));
  });

  test('all faults at once, a missing parameter among them', () => {
    const strict: MethodRow = {
      ...row,
      path: '/nodes/{node}',
      parameters: { ...parameters, name: { type: 'string' } },
    };
    expect(Object.keys(faultsOf({ cores: 'x', other: '1', node: 'n1' }, strict) ?? {})).toEqual([
      'cores',
      'other',
      'name',
    ]);
  });
});

test('every plain integer within its range is taken as that number', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e9 }), (cores) => {
      expect(verify({ cores: String(cores) })).toEqual({ cores });
    }),
  );
});
