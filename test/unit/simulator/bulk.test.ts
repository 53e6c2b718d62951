import { beforeEach, describe, expect, test } from 'vitest';
import { GiB, MiB } from '../../../simulator/sizes.ts';
import { alice, makeWorld, qemu, root, type World } from './world.ts';

const all = '/cluster/bulk-action/guest';

let world: World;
const status = (vmid: number) => world.cluster.guests.get(vmid)?.status;
const nodeOf = (vmid: number) => world.cluster.guests.get(vmid)?.node;
const tasks = () => world.cluster.tasks.list().map(({ type, id }) => `${type} ${id}`.trim());

beforeEach(() => {
  world = makeWorld();
  world.vm(100, { memory: 1024, scsi0: 'ceph:8', onboot: 1 });
  world.vm(101, { memory: 2048, scsi0: 'ceph:8' });
  world.container(102, { rootfs: 'ceph:4' });
});

describe('many guests at once', () => {
  test('start, each with a task of its own, and stop', () => {
    expect(world.task('POST', `${all}/start`, { vms: [100, 102] })).toBe('OK');
    expect([100, 101, 102].map(status)).toEqual(['running', 'stopped', 'running']);
    expect(tasks().slice(0, 3).sort()).toEqual(['bulk-start', 'qmstart 100', 'vzstart 102']);
    expect(world.task('POST', `${all}/start`, { vms: 100 })).toBe('WARNINGS: 1');
    expect(world.task('POST', `${all}/shutdown`, {})).toBe('WARNINGS: 1');
    expect([100, 101, 102].map(status)).toEqual(['stopped', 'stopped', 'stopped']);
  });

  test('suspend to disk with a state volume each', () => {
    world.task('POST', '/nodes/{node}/startall', { force: 1 });
    expect(world.task('POST', `${all}/suspend`, { 'to-disk': 1, statestorage: 'fast' })).toBe('WARNINGS: 1');
    const states = [100, 101].map((vmid) =>
      world.cluster.volumes.ofGuest(vmid).find(({ volid }) => volid.includes('-state-suspend-')),
    );
    expect(states.map((state) => [state?.storage, state?.bytes])).toEqual([
      ['fast', (2 * 1024 + 500) * MiB],
      ['fast', (2 * 2048 + 500) * MiB],
    ]);
    expect(status(102)).toBe('running');
    expect(world.config(100).lock).toBe('suspended');
  });

  test('move, and those that cannot are named', () => {
    world.vm(103, { scsi0: 'tank:1' });
    const outcome = world.task('POST', `${all}/migrate`, { target: 'n3', vms: [100, 103] });
    expect(outcome).toBe('Some guests failed: 103');
    expect([nodeOf(100), nodeOf(103)]).toEqual(['n3', 'n1']);
  });

  test('need the right on each that is named, or on all', () => {
    world.cluster.join('alice', 100);
    const start = (vms?: readonly number[]) => () =>
      world.task('POST', `${all}/start`, vms === undefined ? {} : { vms }, { caller: alice });
    expect(start([100])()).toBe('OK');
    expect(start([100, 101])).toThrow('Permission check failed (/vms/101, VM.PowerMgmt)');
    expect(start()).toThrow('Permission check failed (/, VM.PowerMgmt)');
    expect(() => world.task('POST', `${all}/start`, { vms: ['x'] })).toThrow('Parameter verification failed.');
  });

  test('end when all have ended, whatever the pace of the single tasks', () => {
    world.cluster.tasks.pace = 'by hand';
    const upid = world.call<string>('POST', `${all}/start`, { vms: [100] });
    expect(status(100)).toBe('stopped');
    world.cluster.tasks.finish(upid);
    expect([status(100), world.cluster.tasks.running().length]).toEqual(['running', 0]);
  });
});

describe('all guests of a node', () => {
  test('start only where they are to start with it, unless forced', () => {
    expect(world.task('POST', '/nodes/{node}/startall', {})).toBe('OK');
    expect([100, 101].map(status)).toEqual(['running', 'stopped']);
    world.task('POST', '/nodes/{node}/startall', { force: 1, vms: '101' });
    expect([101, 102].map(status)).toEqual(['running', 'stopped']);
    expect(world.task('POST', '/nodes/{node}/stopall', { node: 'n2' })).toBe('OK');
    expect(status(100)).toBe('running');
  });

  test('are suspended to disk, whatever is said', () => {
    world.task('POST', '/nodes/{node}/startall', {});
    world.task('POST', '/nodes/{node}/suspendall', { vms: '100' });
    expect(world.config(100)).toMatchObject({ lock: 'suspended', vmstate: expect.stringContaining('ceph:') });
    expect(world.task('POST', `${qemu}/status/start`, { vmid: 100 })).toBe('OK');
    expect(world.cluster.volumes.ofGuest(100).map(({ bytes }) => bytes)).toEqual([8 * GiB]);
  });

  test('move with it, running or not', () => {
    world.task('POST', '/nodes/{node}/startall', {});
    expect(world.task('POST', '/nodes/{node}/migrateall', { target: 'n2', maxworkers: 4 }, { caller: root })).toBe(
      'OK',
    );
    expect([100, 101, 102].map(nodeOf)).toEqual(['n2', 'n2', 'n2']);
  });
});
