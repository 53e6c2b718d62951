import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import { Load, onceOver, type Sample, strainOf } from '../../../src/routes/load.ts';

const GiB = 1024 ** 3;

const well: Sample = {
  late: 3,
  heap: GiB,
  heapLimit: 4 * GiB,
  resident: 2 * GiB,
  memoryLimit: Number.POSITIVE_INFINITY,
};

test.each([
  ['a process at ease', {}, undefined],
  ['one that stumbles for a moment', { late: 900 }, undefined],
  ['one that does not keep up', { late: 2500 }, 'it cannot keep up'],
  ['a heap that is nearly full', { heap: 3.6 * GiB }, 'memory is short'],
  ['a container that is nearly full', { memoryLimit: 2.2 * GiB }, 'memory is short'],
  ['a container with room', { memoryLimit: 4 * GiB }, undefined],
] as const)('%s takes on what it can', (_, sample, strain) => {
  expect(strainOf({ ...well, ...sample })).toBe(strain);
});

test('a user has a share of the places, which are free again when they leave', () => {
  const load = new Load(8);
  try {
    const [first, ...others] = [1, 2, 3, 4].map((n) => load.place(`192.0.2.${n}`, 'alice@pve'));
    expect([first, ...others].every((leave) => leave !== undefined)).toBe(true);
    expect(load.place('192.0.2.5', 'alice@pve')).toBeUndefined();
    expect(load.place('192.0.2.5', 'bob@pve')).toBeDefined();
    first?.();
    expect(load.place('192.0.2.5', 'alice@pve')).toBeDefined();
    expect(load.running).toBe(5);
  } finally {
    load.close();
  }
});

test.each([
  ['its response', (_: EventEmitter, response: EventEmitter) => response.emit('close')],
  ['its connection, of which the response hears nothing', (socket: EventEmitter) => socket.emit('close')],
])('a request is over once when %s is, unless that is called off, and leaves nothing behind', (_, end) => {
  const [socket, response] = [new EventEmitter(), new EventEmitter()];
  let times = 0;
  const watch = () =>
    onceOver({ socket } as unknown as IncomingMessage, response as unknown as ServerResponse, () => {
      times += 1;
    });
  watch();
  const callOff = watch();
  callOff();
  end(socket, response);
  for (const one of [socket, response]) one.emit('close');
  expect(times).toBe(1);
  expect([socket.listenerCount('close'), response.listenerCount('close')]).toEqual([0, 0]);
});
