import { afterAll, beforeAll, expect, test } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { type Client, type Site, startSite } from '../support/site.ts';

const plenty = {
  cores: 'unlimited',
  memory: 'unlimited',
  swap: 'unlimited',
  network: 'unlimited',
  ceph: 'unlimited',
  fast: 'unlimited',
} as const;

const vm = '/cluster/n1/qemu/100';
const container = '/cluster/n1/lxc/101';
const newVm = { name: 'web', cores: '1', memory: '512' };
const newContainer = {
  ...newVm,
  swap: '512',
  password: 'secret-password',
  ostemplate: 'shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst',
  rootfslocation: 'ceph',
  rootfssize: '4',
};
const vmSizes = { cores: '2', memory: '1024', proctype: 'host', boot: 'scsi0' };
const containerSizes = { cores: '2', memory: '1024', swap: '512' };

type Form = Readonly<Record<string, string>>;
type Row = readonly [path: string, field: string, form: Form, expected: string];

const wholeNumbers: readonly Row[] = [
  ['/cluster/n1/qemu/110/create', 'cores', newVm, 'a whole number of cores from'],
  ['/cluster/n1/qemu/110/create', 'memory', newVm, 'a whole number of MiB from'],
  ['/cluster/n1/lxc/111/create', 'cores', newContainer, 'a whole number of cores from'],
  ['/cluster/n1/lxc/111/create', 'memory', newContainer, 'a whole number of MiB from'],
  ['/cluster/n1/lxc/111/create', 'swap', newContainer, 'a whole number of MiB from'],
  ['/cluster/n1/lxc/111/create', 'rootfssize', newContainer, 'a whole number of GiB from'],
  [`${vm}/resources`, 'cores', vmSizes, 'a whole number of cores from'],
  [`${vm}/resources`, 'memory', vmSizes, 'a whole number of MiB from'],
  [`${container}/resources`, 'cores', containerSizes, 'a whole number of cores from'],
  [`${container}/resources`, 'memory', containerSizes, 'a whole number of MiB from'],
  [`${container}/resources`, 'swap', containerSizes, 'a whole number of MiB from'],
  [`${vm}/disk/scsi1/create`, 'size', { storage: 'ceph', size: '8' }, 'a whole number of GiB from'],
  [`${container}/disk/mp1/create`, 'size', { storage: 'ceph', size: '8' }, 'a whole number of GiB from'],
  [`${vm}/disk/scsi0/resize`, 'size', { size: '8' }, 'a whole number of GiB from'],
  [`${container}/disk/rootfs/resize`, 'size', { size: '8' }, 'a whole number of GiB from'],
  [`${vm}/disk/scsi1/attach`, 'source', { source: '0' }, 'the whole number N of a disk unusedN, from 0 to 255'],
  [
    `${container}/disk/mp1/attach`,
    'source',
    { source: '0', mp: '/srv' },
    'the whole number N of a disk unusedN, from 0 to 255',
  ],
];

const others: readonly (readonly [path: string, field: string, form: Form, wrong: readonly string[]])[] = [
  [`${vm}/disk/scsi0/move`, 'delete', { storage: 'fast', delete: '1' }, ['', '2', '-1', '1.0', '0x1', 'true', 'null']],
  [`${vm}/disk/scsi0/move`, 'storage', { storage: 'fast', delete: '1' }, ['', 'null', 'a', 'fast:1', 'fast,size=1']],
  [`${vm}/disk/scsi1/create`, 'storage', { storage: 'ceph', size: '8' }, ['', 'null', '../fast', 'fast:8,x']],
  [`${vm}/disk/ide2/create`, 'iso', { iso: '' }, ['shared:iso/a b', 'ceph:vm-100-disk-0', 'shared:iso/x,media=disk']],
  [`${container}/disk/mp1/attach`, 'mp', { source: '0', mp: '' }, ['srv', '/a,size=9', '/a/../b', '/\n', '..']],
  [`${vm}/resources`, 'proctype', vmSizes, ['host,,flags', ',', 'a b', 'host,flags', '=']],
  [`${vm}/resources`, 'boot', vmSizes, ['scsi0;net0', 'scsi0,scsi0', 'scsi99', 'unused0', 'order=scsi0', 'scsi0 ']],
  ['/cluster/n1/qemu/110/create', 'name', newVm, ['', 'null', 'a b', '-a', 'a,b', 'a_b']],
  ['/cluster/n1/qemu/110/create', 'pool', newVm, ['a b', 'alice,x', '/alice']],
  ['/cluster/n1/lxc/111/create', 'password', newContainer, ['', 'null', '1234', 'line\nbreak']],
  ['/cluster/n1/lxc/111/create', 'ostemplate', newContainer, ['', 'null', 'shared:iso/x.iso', 'local:vztmpl/a,b']],
  ['/cluster/n1/lxc/111/create', 'rootfslocation', newContainer, ['', 'null', 'x', 'ceph:8']],
];

let site: Site;
let alice: Client;

beforeAll(async () => {
  site = await startSite({ users: { alice: plenty } });
  addGuest(site.cluster, {
    vmid: 100,
    pool: 'alice',
    config: { cores: 1, memory: 512, scsi0: 'ceph:vm-100-disk-0,size=8G', unused0: 'ceph:vm-100-disk-1' },
  });
  addGuest(site.cluster, {
    vmid: 101,
    type: 'lxc',
    pool: 'alice',
    config: { cores: 1, memory: 512, swap: 512, rootfs: 'ceph:vm-101-disk-0,size=8G', unused0: 'ceph:vm-101-disk-1' },
  });
  await site.refresh();
  alice = await site.signIn('alice');
});

afterAll(() => site[Symbol.asyncDispose]());

/** Sends the form with one field spelled in another way; PVE must not hear of it. */
async function refused(path: string, form: Form, field: string, spelled: string | undefined) {
  const rest = Object.entries(form).filter(([name]) => name !== field);
  const body = [new URLSearchParams(rest).toString(), ...(spelled === undefined ? [] : [spelled])].join('&');
  const from = site.simulator.requests.length;
  const reply = await alice.send('POST', path, body);
  const changes = site.simulator.requests
    .slice(from)
    .filter(({ method, path }) => method !== 'GET' && path !== '/version');
  expect(changes).toEqual([]);
  return reply;
}

test.each(wholeNumbers)('%s takes nothing but a whole number as %s', async (path, field, form, expected) => {
  const spellings = {
    absent: undefined,
    empty: `${field}=`,
    'a missing page field': `${field}=null`,
    negative: `${field}=-1`,
    fraction: `${field}=1.5`,
    exponent: `${field}=1e3`,
    hex: `${field}=0x10`,
    huge: `${field}=${'9'.repeat(40)}`,
    'too large': `${field}=999999999999`,
    'with a unit': `${field}=4G`,
    signed: `${field}=%2B4`,
    blank: `${field}=%204`,
    'line break': `${field}=4%0A`,
    repeated: `${field}=1&${field}=2`,
    array: `${field}[]=4`,
    nested: `${field}[a]=4`,
    'not ASCII': `${field}=${encodeURIComponent('٤')}`,
  };
  for (const [kind, spelled] of Object.entries(spellings)) {
    const { status, body } = await refused(path, form, field, spelled);
    expect([kind, status]).toEqual([kind, 400]);
    expect(`; ${body.error}`).toContain(`; ${field}: expected ${expected}`);
  }
});

test.each(others)('%s refuses what is no %s', async (path, field, form, wrong) => {
  for (const value of wrong) {
    const { status, body } = await refused(path, form, field, `${field}=${encodeURIComponent(value)}`);
    expect([value, status]).toEqual([value, 400]);
    expect(body.error).toContain(`${field}: expected `);
    if (field === 'password' && value !== '') expect(body.error).not.toContain(value);
  }
});

test('a field that nobody knows is refused with the names of those that are', async () => {
  const { status, body } = await refused(`${vm}/resources`, { ...vmSizes, sockets: '4' }, '', undefined);
  expect(status).toBe(400);
  expect(body.error).toBe('sockets: unknown here; the fields are cores, memory, proctype, boot');
});

test('all faults of a form are told at once', async () => {
  const { body } = await refused('/cluster/n1/lxc/111/create', {}, '', undefined);
  expect(Object.keys(newContainer).filter((name) => !body.error.includes(`${name}: expected`))).toEqual([]);
});

test.each([
  'ide4',
  'sata6',
  'scsi31',
  'virtio16',
  'SCSI0',
  'scsi01',
  'scsi',
  'mp0',
  'rootfs',
  'net0',
  'scsi0%0A',
  'vga',
])('the slot %s is no disk of a VM', async (disk) => {
  const { status, body } = await refused(`${vm}/disk/${disk}/detach`, {}, '', undefined);
  expect([status, body.error]).toEqual([400, expect.stringContaining('disk: expected ide0 to ide3')]);
});

test.each(['0', '99', '1e3', '0100', '1000000000', '100%0A', '-100', 'abc'])('%s is no vmid', async (vmid) => {
  const { status, body } = await refused(`/cluster/n1/qemu/${vmid}/create`, newVm, '', undefined);
  expect([status, body.error]).toEqual([400, expect.stringContaining('vmid: expected a whole number from 100')]);
});
