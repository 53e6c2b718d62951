import { describe, expect, test } from 'vitest';
import { Tickets } from '../../../simulator/tickets.ts';

const made = 1_700_000_000;

describe('a ticket', () => {
  const tickets = new Tickets();
  const ticket = tickets.issue('alice@pve', made);

  test('has the form of PVE', () => {
    expect(ticket).toMatch(/^PVE:alice@pve:6553F100::[A-Za-z0-9+/]+$/);
  });

  test.each([
    [0, 'alice@pve'],
    [-299, 'alice@pve'],
    [-300, undefined],
    [7199, 'alice@pve'],
    [7200, undefined],
  ])('after %i seconds signs in %s', (age, user) => {
    expect(tickets.verify(ticket, made + age)).toBe(user);
  });

  test.each([
    ['of another name', ticket.replace('alice', 'bobby')],
    ['of another time', ticket.replace('6553F100', '6553F101')],
    ['cut short', ticket.slice(0, -1)],
    ['empty', ''],
  ])('%s signs in nobody', (_, changed) => {
    expect(tickets.verify(changed, made)).toBeUndefined();
  });

  test('of another cluster signs in nobody', () => {
    expect(new Tickets().verify(ticket, made)).toBeUndefined();
  });

  test('that asks for a second factor signs in nobody and belongs to one user', () => {
    const challenge = tickets.issueChallenge('alice@pve', made);
    expect(tickets.verify(challenge, made)).toBeUndefined();
    expect(tickets.verifyChallenge(challenge, 'alice@pve', made)).toBe(true);
    expect(tickets.verifyChallenge(challenge, 'bob@pve', made)).toBe(false);
    expect(tickets.verifyChallenge(ticket, 'alice@pve', made)).toBe(false);
  });
});

test('a CSRF token is bound to the user and to two hours', () => {
  const tickets = new Tickets();
  const token = tickets.issueCsrf('alice@pve', made);
  expect(token).toMatch(/^6553F100:[A-Za-z0-9+/]{43}$/);
  expect(tickets.verifyCsrf(token, 'alice@pve', made + 7199)).toBe(true);
  expect(tickets.verifyCsrf(token, 'alice@pve', made + 7200)).toBe(false);
  expect(tickets.verifyCsrf(token, 'bob@pve', made)).toBe(false);
  expect(tickets.verifyCsrf('', 'alice@pve', made)).toBe(false);
});
