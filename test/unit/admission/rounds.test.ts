import { pino } from 'pino';
import { afterEach, expect, test, vi } from 'vitest';
import type { Inventory } from '../../../src/admission/inventory.ts';
import { Rounds } from '../../../src/admission/rounds.ts';
import { NotFoundError, UpstreamDeadlineError } from '../../../src/errors.ts';
import type { Ledger } from '../../../src/quota/ledger.ts';

afterEach(() => vi.useRealTimers());

test.each([3, 1000, 2500])('of %i guests each is looked at once in the time of a sweep', async (size) => {
  vi.useFakeTimers();
  const looks = new Map<number, number>();
  const guests = new Map(Array.from({ length: size }, (_, index) => [100 + index, { vmid: 100 + index }]));
  const inventory = {
    ready: true,
    guests,
    stale: new Set<number>(),
    list: async () => {},
    listStorages: async () => {},
    look: async ({ vmid }: { vmid: number }) => {
      looks.set(vmid, (looks.get(vmid) ?? 0) + 1);
      throw new NotFoundError('it was looked at');
    },
  } as unknown as Inventory;
  const rounds = new Rounds({
    inventory,
    ledger: {} as Ledger,
    log: pino({ level: 'silent' }),
    refresh: { resources: 3600, storage: 3600, sweep: 900 },
  });
  rounds.start();
  await vi.advanceTimersByTimeAsync(899_000);
  expect(Math.max(...looks.values())).toBe(1);
  await vi.advanceTimersByTimeAsync(2000);
  expect(looks.size).toBe(size);
  rounds.close();
});

test('one node that hangs is not told of as if PVE came and went', async () => {
  vi.useFakeTimers();
  const told: string[] = [];
  let hangs = true;
  const inventory = {
    ready: true,
    guests: new Map([[100, { vmid: 100 }]]),
    stale: new Set([100]),
    list: async () => {},
    listStorages: async () => {},
    look: async () => {
      throw hangs ? new UpstreamDeadlineError('too slow') : new NotFoundError('it was looked at');
    },
  } as unknown as Inventory;
  const rounds = new Rounds({
    inventory,
    ledger: {} as Ledger,
    log: pino({ level: 'info' }, { write: (line: string) => told.push(JSON.parse(line).msg) }),
    refresh: { resources: 15, storage: 60, sweep: 900 },
  });
  rounds.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(told).not.toContain('PVE can be looked at again');
  hangs = false;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(told.filter((text) => text === 'PVE can be looked at again')).toHaveLength(1);
  rounds.close();
});
