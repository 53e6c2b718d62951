/** What a VM's guest agent says: the guest of the simulation runs it when the configuration has one, and does nothing else. */

import { guestOf } from '../guests.ts';
import { assertRunning } from '../lifecycle.ts';
import type { Context, MethodRow, Permissions } from '../method.ts';
import type { Guest } from '../model.ts';
import { flag, integer, oneOf, required, text, vmid } from '../parameters.ts';
import { PveError } from '../pve-error.ts';

const path = '/nodes/{node}/qemu/{vmid}/agent';
const looking: Permissions = {
  check: ['perm', '/vms/{vmid}', ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted'], 'any', 1],
};
const acting: Permissions = { check: ['perm', '/vms/{vmid}', ['VM.GuestAgent.Unrestricted']] };

/** The guest with an agent that answers; the configuration says whether there is one, not whether it runs. */
function answering(context: Context): Guest {
  const guest = guestOf(context, 'qemu');
  const agent = guest.config.get('agent');
  if (agent === undefined) throw new PveError(500, 'No QEMU guest agent configured');
  assertRunning(guest);
  if (/^(?:enabled=)?0(?:,|$)/.test(agent)) throw new PveError(500, 'QEMU guest agent is not running');
  return guest;
}

function nameOf({ config, vmid }: Guest): string {
  return config.get('name') ?? `VM ${vmid}`;
}

/** The loopback, and one interface for each card with an address of its own. */
function interfacesOf({ config, vmid }: Guest): readonly Record<string, unknown>[] {
  const cards = [...config].filter(([key]) => /^net\d+$/.test(key)).sort(([a], [b]) => a.localeCompare(b));
  const address = (ip: string, prefix: number) => ({ 'ip-address': ip, 'ip-address-type': 'ipv4', prefix });
  const rows = cards.map(([key, card], index) => ({
    name: `eth${key.slice(3)}`,
    'hardware-address': (/[0-9A-F]{2}(?::[0-9A-F]{2}){5}/i.exec(card)?.[0] ?? '').toLowerCase(),
    'ip-addresses': [address(`198.18.${index}.${vmid % 250}`, 15)],
  }));
  const loopback = { 'hardware-address': '00:00:00:00:00:00', 'ip-addresses': [address('127.0.0.1', 8)] };
  return [{ name: 'lo', ...loopback }, ...rows];
}

/** What each command answers, by its name. */
const commands: Readonly<Record<string, readonly ['GET' | 'POST', (guest: Guest) => unknown]>> = {
  ping: ['POST', () => ({})],
  info: ['GET', () => ({ version: '10.1.2', supported_commands: [] })],
  'get-host-name': ['GET', (guest) => ({ 'host-name': nameOf(guest) })],
  'get-osinfo': ['GET', () => ({ id: 'debian', name: 'Debian GNU/Linux', 'version-id': '13' })],
  'network-get-interfaces': ['GET', interfacesOf],
};

/** The command lines that were started in each guest; the number of one is its place here. */
const started = new WeakMap<Guest, string[]>();

function execute(context: Context): unknown {
  const guest = answering(context);
  const lines = started.get(guest) ?? [];
  started.set(guest, lines);
  return { pid: lines.push([context.param.command].flat().join(' ')) };
}

/** Nothing is really run: each command has ended at once, and says what it was. */
function executed(context: Context): unknown {
  const line = started.get(answering(context))?.[Number(context.param.pid) - 1];
  if (line === undefined) throw new PveError(500, `Agent error: Invalid parameter 'pid'`);
  return { exited: 1, exitcode: 0, 'out-data': `${line}\n` };
}

export const agentMethods: readonly MethodRow[] = [
  ...Object.entries(commands).map(
    ([name, [method, answer]]): MethodRow => ({
      ...{ method, path: `${path}/${name}`, permissions: looking, parameters: { vmid } },
      run: (context) => ({ result: answer(answering(context)) }),
    }),
  ),
  {
    ...{ method: 'POST', path, permissions: acting },
    parameters: { vmid, command: required(oneOf(...Object.keys(commands))) },
    run: (context) => ({ result: commands[String(context.param.command)]?.[1](answering(context)) }),
  },
  {
    ...{ method: 'POST', path: `${path}/exec`, permissions: acting },
    parameters: { vmid, command: { type: 'array', items: { type: 'string' } }, 'input-data': text },
    run: execute,
  },
  {
    ...{ method: 'GET', path: `${path}/exec-status`, permissions: acting },
    parameters: { vmid, pid: required(integer()) },
    run: executed,
  },
  {
    ...{ method: 'POST', path: `${path}/set-user-password`, permissions: acting },
    parameters: {
      ...{ vmid, username: required(text), crypted: flag },
      password: { type: 'string', minLength: 5, maxLength: 1024 },
    },
    run: (context) => {
      answering(context);
      return { result: {} };
    },
  },
];
