import { beforeEach, describe, expect, test } from 'vitest';
import { alice, makeWorld, proxy, qemu, type World } from './world.ts';

let world: World;

beforeEach(() => {
  world = makeWorld();
  world.vm(100, { name: 'web', agent: '1', pool: 'alice', net0: 'virtio=BC:24:11:00:00:64,bridge=vmbr0' });
});

describe('the guest agent', () => {
  const ask = <Answer>(command: string, method: 'GET' | 'POST' = 'GET', param = {}) =>
    world.call<Answer>(method, `${qemu}/agent/${command}`, { vmid: 100, ...param }, { caller: proxy });

  test('tells names and addresses, and runs commands, while the VM does', () => {
    expect(() => ask('ping', 'POST')).toThrow(/not running/);
    world.task('POST', `${qemu}/status/start`, { vmid: 100 });
    expect(ask('ping', 'POST')).toEqual({ result: {} });
    expect(ask('get-host-name')).toEqual({ result: { 'host-name': 'web' } });
    expect(ask('network-get-interfaces')).toEqual({
      result: [
        expect.objectContaining({ name: 'lo' }),
        expect.objectContaining({ name: 'eth0', 'hardware-address': 'bc:24:11:00:00:64' }),
      ],
    });
    const named = { vmid: 100, command: 'get-host-name' };
    expect(world.call('POST', `${qemu}/agent`, named)).toEqual(ask('get-host-name'));
    const { pid } = ask<{ pid: number }>('exec', 'POST', { command: ['ls', '-l'] });
    expect(ask('exec-status', 'GET', { pid })).toEqual({ exited: 1, exitcode: 0, 'out-data': 'ls -l\n' });
    expect(() => ask('exec-status', 'GET', { pid: pid + 1 })).toThrow(/Agent error/);
    expect(ask('set-user-password', 'POST', { username: 'root', password: 'a-long-one' })).toEqual({ result: {} });
  });

  test('is missing where the configuration has none, and silent where it is off', () => {
    world.task('POST', `${qemu}/status/start`, { vmid: 100 });
    world.cluster.guests.get(100)?.config.set('agent', '0');
    expect(() => ask('info')).toThrow('QEMU guest agent is not running');
    world.cluster.guests.get(100)?.config.delete('agent');
    expect(() => ask('info')).toThrow('No QEMU guest agent configured');
  });

  test('is for those who may use it', () => {
    world.cluster.access.setAcl('/pool/alice', { users: [alice.user] }, 'PVEVMUser');
    world.cluster.access.removeAcl('/pool/alice', { users: [alice.user] }, 'QuotaTenant');
    const command = { vmid: 100, command: ['ls'] };
    expect(() => world.call('POST', `${qemu}/agent/exec`, command, { caller: alice })).toThrow(/Unrestricted/);
  });
});

test.each([
  ['/nodes/{node}/qemu/{vmid}/rrddata', { vmid: 100 }, ['time', 'cpu', 'maxmem', 'netin']],
  ['/nodes/{node}/rrddata', {}, ['time', 'maxcpu', 'memtotal']],
  ['/nodes/{node}/storage/{storage}/rrddata', { storage: 'ceph' }, ['time', 'total', 'used']],
])('%s is a history in even steps', (path, param, keys) => {
  const rows = world.call<Record<string, number>[]>('GET', path, { ...param, timeframe: 'day' });
  expect(rows).toHaveLength(70);
  expect(rows.slice(1).map(({ time = 0 }, index) => time - (rows[index]?.time ?? 0))).toEqual(Array(69).fill(1800));
  expect(Object.keys(rows[0] ?? {})).toEqual(expect.arrayContaining(keys));
  expect(() => world.call('GET', path, param)).toThrow();
});
