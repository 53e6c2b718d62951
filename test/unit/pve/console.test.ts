import { describe, expect, test } from 'vitest';
import { call } from '../../../src/pve/call.ts';
import { ConsoleTickets, consoleLimits } from '../../../src/pve/console.ts';

const ticket = 'PVEVNC:65A0B1C2::c2lnbmF0dXJl';
const proxy = call('POST', '/nodes/n1/qemu/100/vncproxy');
const answered = (data: unknown, status = 200) => ({ status, reason: '', data });

describe('the host of a ticket', () => {
  test.each([
    ['a VM', proxy],
    ['a terminal', call('POST', '/nodes/n1/lxc/100/termproxy')],
    ['a node', call('POST', '/nodes/n1/vncshell')],
  ])('is known after the call for %s', (_what, asked) => {
    const tickets = new ConsoleTickets<string>(() => 0);
    tickets.note(asked, answered({ ticket }), 'b');
    expect(tickets.hostOf(ticket)).toBe('b');
    expect(tickets.hostOf(`a1B2c3D4:${ticket}`)).toBe('b');
    expect(tickets.hostOf(`${ticket}x`)).toBeUndefined();
  });

  test.each([
    ['a sign-in', call('POST', '/access/ticket'), answered({ ticket })],
    ['a read', call('GET', '/nodes/n1/qemu/100/vncproxy'), answered({ ticket })],
    ['a refusal', proxy, answered({ ticket }, 403)],
    ['no ticket', proxy, answered(null)],
  ])('is not kept of %s', (_what, asked, answer) => {
    const tickets = new ConsoleTickets<string>(() => 0);
    tickets.note(asked, answer, 'b');
    expect(tickets.hostOf(ticket)).toBeUndefined();
  });

  test('is forgotten after a minute, and before that when there are too many', () => {
    let now = 0;
    const tickets = new ConsoleTickets<string>(() => now);
    tickets.note(proxy, answered({ ticket }), 'b');
    now = 59_999;
    expect(tickets.hostOf(ticket)).toBe('b');
    now = 60_000;
    expect(tickets.hostOf(ticket)).toBeUndefined();
    for (let index = 0; index < 10_001; index += 1) tickets.note(proxy, answered({ ticket: `${ticket}${index}` }), 'a');
    expect(tickets.hostOf(`${ticket}0`)).toBeUndefined();
    expect(tickets.hostOf(`${ticket}10000`)).toBe('a');
  });
});

test('no frame may be configured that PVE would not take', () => {
  expect(consoleLimits.parse(undefined)).toEqual({ total: 256, perUser: 16, idle: 1800, frameBytes: 131_072 });
  expect(consoleLimits.safeParse({ frameBytes: 131_073 }).success).toBe(false);
});
