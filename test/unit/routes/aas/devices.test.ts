import { describe, expect, test } from 'vitest';
import type { PciFunction } from '../../../../src/pve/listing.ts';
import { deviceIn, isPartOfHost, wholeDevices } from '../../../../src/routes/aas/devices.ts';

const part = (id: string, name: string, row: Readonly<Record<string, unknown>> = {}): PciFunction => ({
  id,
  device_name: name,
  vendor_name: 'NVIDIA',
  row: { id, ...row },
});
const card = [
  part('0000:41:00.1', 'Audio'),
  part('0000:41:00.0', 'Tesla T4', { class: '0x030000', iommugroup: 40, subsystem_device_name: 'T4' }),
];
const host = {
  node: 'n1',
  devices: new Map([
    ['0000:41:00.0', 'Tesla T4'],
    ['0000:41:00.1', 'Audio'],
  ]),
  mappings: new Map([['gpu', ['0000:41:00']]]),
};

test('the functions of a device are one device, named by the first', () => {
  expect(wholeDevices([...card, part('0000:81:00.0', 'Other')], (bus) => bus === '0000:81:00')).toEqual([
    {
      ...{ id: '0000:41:00', device_bus: '0000:41:00', device_id: '', device_name: 'Tesla T4', vendor_name: 'NVIDIA' },
      ...{ reserved: false, Value: '', class: '0x030000', iommugroup: 40, subsystem_device_name: 'T4' },
      functions: {
        '0': { function_id: '0', subsystem_device_name: 'T4', subsystem_vendor_name: '', reserved: false },
        '1': { function_id: '1', subsystem_device_name: '', subsystem_vendor_name: '', reserved: false },
      },
    },
    expect.objectContaining({ id: '0000:81:00', reserved: true }),
  ]);
});

describe('the device in a slot', () => {
  test.each([
    ['0000:41:00,pcie=1', '0000:41:00', 'Tesla T4', '0000:41:00,pcie=1'],
    ['host=41:00.1', '0000:41:00', 'Tesla T4', 'host=41:00.1'],
    ['mapping=gpu,pcie=1', '0000:41:00', 'Tesla T4', '0000:41:00,pcie=1'],
    ['mapping=gpu', '0000:41:00', 'Tesla T4', '0000:41:00'],
    ['mapping=unknown,pcie=1', '', 'unknown', 'mapping=unknown,pcie=1'],
    ['0000:99:00', '0000:99:00', '', '0000:99:00'],
    ['a,b,c', '', '', 'a,b,c'],
  ])('%j is on %j', (text, bus, name, Value) => {
    expect(deviceIn('hostpci0', text, host)).toMatchObject({
      ...{ id: bus, device_bus: bus, device_id: 'hostpci0', device_name: name, reserved: true, Value },
    });
  });
});

test.each([
  ['0x060400', true],
  ['0x0b4000', true],
  ['0x050000', true],
  ['0x030000', false],
  [undefined, false],
])('a device of class %s belongs to the host: %s', (given, answer) => {
  expect(isPartOfHost(part('0000:00:01.0', 'x', { class: given }))).toBe(answer);
});
