/** Consoles of VMs and containers: the call that opens a port, and the WebSocket that leads to it. */

import { randomBytes } from 'node:crypto';
import type { Offer } from '../consoles.ts';
import { guestOf } from '../guests.ts';
import { assertRunning } from '../lifecycle.ts';
import { authUser, type Context, type MethodRow, type Permissions, Tunnel } from '../method.ts';
import { flag, integer, named, oneOf, required, text, vmid } from '../parameters.ts';
import { PveError } from '../pve-error.ts';

const atConsole: Permissions = { check: ['perm', '/vms/{vmid}', ['VM.Console']] };
const authority = '-----BEGIN CERTIFICATE-----\nsimulated\n-----END CERTIFICATE-----\n';

type Type = 'qemu' | 'lxc';

function offer(context: Context, type: Type, kind: 'vnc' | 'terminal'): Offer {
  return context.cluster.consoles.offer(context, kind, guestOf(context, type).vmid);
}

function vncProxy(context: Context, type: Type): Record<string, unknown> {
  const password = context.param['generate-password'] ? { password: randomBytes(6).toString('base64') } : {};
  return { ...offer(context, type, 'vnc'), cert: authority, ...password };
}

/** Settings for a viewer, which connects to the node's own port for SPICE and never to the API's. */
function spiceProxy(context: Context, type: Type): Record<string, unknown> {
  const guest = guestOf(context, type);
  if (type === 'qemu') assertRunning(guest);
  const { node, param } = context;
  return {
    type: 'spice',
    title: `VM ${guest.vmid}`,
    host: `pvespiceproxy:${randomBytes(16).toString('hex')}:${guest.vmid}:${node}:61000::`,
    proxy: `http://${param.proxy ?? node}:3128`,
    'tls-port': 61000,
    password: randomBytes(20).toString('hex'),
    ca: authority.replaceAll('\n', '\\n'),
    'host-subject': `OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=${node}`,
    'delete-this-file': 1,
  };
}

/** The ticket has to be the caller's own, for this guest and this port. */
function webSocket(context: Context, type: Type): Tunnel {
  const { cluster, caller, param } = context;
  const { access, consoles } = cluster;
  const port = Number(param.port);
  const place = { authid: authUser(caller), path: `/vms/${param.vmid}`, port };
  if (!access.tickets.verifyVnc(String(param.vncticket), place, access.seconds)) {
    throw new PveError(401, 'permission denied - invalid PVEVNC ticket');
  }
  guestOf(context, type);
  return new Tunnel({ port: String(port) }, (socket) => consoles.connect(cluster, port, socket));
}

function rowsFor(type: Type): readonly MethodRow[] {
  const guest = `/nodes/{node}/${type}/{vmid}`;
  const row = (
    method: MethodRow['method'],
    action: string,
    parameters: MethodRow['parameters'],
    run: (context: Context, type: Type) => unknown,
  ): MethodRow => ({
    ...{ method, path: `${guest}/${action}`, permissions: atConsole, parameters: { vmid, ...parameters } },
    run: (context) => run(context, type),
  });
  const picture =
    type === 'qemu' ? { 'generate-password': flag } : { height: integer(16, 2160), width: integer(16, 4096) };
  const line = type === 'qemu' ? { serial: oneOf('serial0', 'serial1', 'serial2', 'serial3') } : {};
  const door = { port: required(integer(5900, 5999)), vncticket: { ...required(text), maxLength: 512 } };
  return [
    row('POST', 'vncproxy', { websocket: flag, ...picture }, vncProxy),
    row('POST', 'termproxy', line, (context) => offer(context, type, 'terminal')),
    row('POST', 'spiceproxy', { proxy: text }, spiceProxy),
    row('GET', 'vncwebsocket', door, webSocket),
  ];
}

/** What a terminal asks about the ticket that it was shown. */
function verifyTicket({ cluster: { access }, param }: Context): null {
  const place = {
    authid: String(param.authid),
    path: String(param.path),
    ...(param.port === undefined ? {} : { port: Number(param.port) }),
  };
  const isValid = access.tickets.verifyVnc(String(param.vncticket), place, access.seconds);
  const held = access.privilegesOf(place.authid, place.path);
  const wanted = String(param.privs).split(/[,;\s]+/);
  if (!isValid || !wanted.every((privilege) => held.has(privilege))) throw new PveError(401, 'authentication failure');
  return null;
}

export const consoleMethods: readonly MethodRow[] = [
  ...rowsFor('qemu'),
  ...rowsFor('lxc'),
  {
    method: 'POST',
    path: '/access/vncticket',
    permissions: { user: 'world' },
    parameters: {
      authid: { type: 'string', maxLength: 64 },
      path: { type: 'string', maxLength: 64 },
      port: integer(),
      privs: { ...required(named('pve-priv-list')), maxLength: 64 },
      vncticket: { type: 'string' },
    },
    run: verifyTicket,
  },
];
