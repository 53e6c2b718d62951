/** Consoles of VMs, containers and nodes: the call that opens a port, and the WebSocket that leads to it. */

import { randomBytes } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { authUser } from '../call.ts';
import type { Offer } from '../consoles.ts';
import { guestOf } from '../guests.ts';
import { assertRunning } from '../lifecycle.ts';
import { type Context, type MethodRow, type Permissions, Tunnel } from '../method.ts';
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

/** Of VMs only those with a display for it speak SPICE; containers have a terminal made for them. */
function spiceProxy(context: Context, type: Type): Record<string, unknown> {
  const guest = guestOf(context, type);
  assertRunning(guest);
  if (type === 'lxc') return viewerSettings(context, guest.vmid, `CT ${guest.vmid}`);
  if (!/^(?:type=)?qxl/.test(guest.config.get('vga') ?? '')) throw new PveError(500, 'no spice port');
  const name = guest.config.get('name');
  return viewerSettings(context, guest.vmid, name === undefined ? `VM ${guest.vmid}` : `VM ${guest.vmid} - ${name}`);
}

/** Settings for a viewer, which connects to the node's own port for SPICE and never to the API's. */
function viewerSettings({ node, param }: Context, vmid: number, title: string): Record<string, unknown> {
  const proxy = String(param.proxy ?? node);
  return {
    type: 'spice',
    title,
    host: `pvespiceproxy:${randomBytes(16).toString('hex')}:${vmid}:${node.toLowerCase()}::${randomBytes(20).toString('hex')}`,
    proxy: `http://${isIPv6(proxy) ? `[${proxy}]` : proxy}:3128`,
    'tls-port': 61000,
    password: randomBytes(20).toString('hex'),
    ca: authority.replaceAll('\n', '\\n'),
    'host-subject': `OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=${node}`,
    'secure-attention': 'Ctrl+Alt+Ins',
    'toggle-fullscreen': 'Shift+F11',
    'release-cursor': 'Ctrl+Alt+R',
    'delete-this-file': 1,
  };
}

/** The ticket has to be the caller's own, for this guest or node and this port. */
function webSocket({ cluster, caller, param }: Context, path: string): Tunnel {
  const { access, consoles } = cluster;
  const port = Number(param.port);
  const place = { authid: authUser(caller), path, port };
  if (!access.tickets.verifyVnc(String(param.vncticket), place, access.seconds)) {
    throw new PveError(401, 'permission denied - invalid PVEVNC ticket');
  }
  return new Tunnel({ port: String(port) }, (socket) => consoles.connect(cluster, port, socket));
}

const door = { port: required(integer(5900, 5999)), vncticket: { ...required(text), maxLength: 512 } };
const picture = { height: integer(16, 2160), width: integer(16, 4096) };

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
  const line = type === 'qemu' ? { serial: oneOf('serial0', 'serial1', 'serial2', 'serial3') } : {};
  return [
    row(
      'POST',
      'vncproxy',
      { websocket: flag, ...(type === 'qemu' ? { 'generate-password': flag } : picture) },
      vncProxy,
    ),
    row('POST', 'termproxy', line, (context) => offer(context, type, 'terminal')),
    row('POST', 'spiceproxy', { proxy: named('address') }, spiceProxy),
    row('GET', 'vncwebsocket', door, (context) => {
      const tunnel = webSocket(context, `/vms/${context.param.vmid}`);
      guestOf(context, type);
      return tunnel;
    }),
  ];
}

/** What runs in a node's console; anything but a login is for root. */
const shell = { cmd: oneOf('ceph_install', 'login', 'upgrade'), 'cmd-opts': { ...text, requires: 'cmd' } };

function nodeRow(
  method: MethodRow['method'],
  action: string,
  parameters: MethodRow['parameters'],
  run: (context: Context) => unknown,
): MethodRow {
  const permissions: Permissions = { check: ['perm', '/nodes/{node}', ['Sys.Console']] };
  return { method, path: `/nodes/{node}/${action}`, permissions, parameters, run };
}

function mustBeLogin({ caller, param }: Context): void {
  if ((param.cmd ?? 'login') !== 'login' && authUser(caller) !== 'root@pam')
    throw new PveError(403, 'Permission check failed (user != root@pam)');
}

const nodeRows: readonly MethodRow[] = [
  nodeRow('POST', 'vncshell', { websocket: flag, ...picture, ...shell }, (context) => {
    mustBeLogin(context);
    return { ...context.cluster.consoles.offer(context, 'vnc'), cert: authority };
  }),
  nodeRow('POST', 'termproxy', shell, (context) => {
    mustBeLogin(context);
    return context.cluster.consoles.offer(context, 'terminal');
  }),
  nodeRow('POST', 'spiceshell', { proxy: named('address'), ...shell }, (context) => {
    mustBeLogin(context);
    return viewerSettings(context, 0, `Shell on '${context.node}'`);
  }),
  nodeRow('GET', 'vncwebsocket', door, (context) => webSocket(context, `/nodes/${context.node}`)),
];

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
  ...nodeRows,
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
