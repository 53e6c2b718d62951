/** Creating, sizing and deleting instances. */

import { BadRequestError } from '../../errors.ts';
import { type Call, call, type Draft } from '../../pve/call.ts';
import { type Instance, isDiskSlot, isNetSlot, propertiesOf } from '../../pve/instance.ts';
import { formatPropertyString } from '../../pve/property-string.ts';
import type { UserRecord } from '../../quota/record.ts';
import { change } from './change.ts';
import {
  containerTemplate,
  cores,
  type Field,
  gibibytes,
  guestName,
  memory,
  newPassword,
  optional,
  poolId,
  readForm,
  storageId,
  swap,
} from './fields.ts';
import type { Surface } from './surface.ts';
import { type Target, targetOf } from './target.ts';

/** `/cluster/:node/:type/:vmid/...`: `create`, `resources` and `delete`. */
export function instanceRoutes({ app, rooms, identify }: Surface): void {
  app.post('/cluster/:node/:type/:vmid/create', async (request) => {
    const caller = await identify(request);
    return change(rooms, createCall(targetOf(request.params), caller.record.templates, request.body), caller);
  });

  app.post('/cluster/:node/:type/:vmid/resources', async (request) => {
    const caller = await identify(request);
    return change(rooms, resourcesCall(targetOf(request.params), request.body), caller);
  });

  app.delete('/cluster/:node/:type/:vmid/delete', async (request) => {
    const caller = await identify(request);
    return change(rooms, deleteCall(targetOf(request.params), request.body), caller);
  });
}

const newGuest = { name: guestName, cores, memory, pool: optional(poolId) };
const newContainer = {
  ...newGuest,
  swap,
  password: newPassword,
  ostemplate: containerTemplate,
  rootfslocation: storageId,
  rootfssize: gibibytes,
};

/** Makes a VM without disks, or a container with its root disk; the user's templates come first, the form wins. */
function createCall({ node, type, vmid }: Target, templates: UserRecord['templates'], body: unknown): Call {
  const own = Object.entries(templates.instances[type]).map(([key, { value }]) => [key, String(value)]);
  const { params, form } = type === 'qemu' ? vmParams(body) : containerParams(body);
  return call('POST', '/nodes/{}/{}', [node, type], {
    ...Object.fromEntries(own),
    vmid: String(vmid),
    cores: String(form.cores),
    memory: String(form.memory),
    ...(form.pool === null ? {} : { pool: form.pool }),
    ...params,
  });
}

function vmParams(body: unknown) {
  const form = readForm(body, newGuest, ['hostname']);
  return { form, params: { name: form.name } };
}

function containerParams(body: unknown) {
  const form = readForm(body, newContainer, ['hostname']);
  const { name, swap, password, ostemplate, rootfslocation, rootfssize } = form;
  const rootfs = formatPropertyString([['volume', `${rootfslocation}:${rootfssize}`]], { defaultKey: 'volume' });
  const params = {
    hostname: name,
    swap: String(swap),
    password,
    ostemplate,
    rootfs,
    unprivileged: '1',
    features: 'nesting=1',
  };
  return { form, params };
}

/** A CPU type with its options, as PVE writes it. */
const processorType: Field<string> = {
  expected: 'a CPU type such as host or x86-64-v2-AES',
  read: (text) => {
    const properties = propertiesOf(text, { defaultKey: 'cputype' });
    return properties !== null && /^[A-Za-z0-9][\w.+-]*$/.test(properties.get('cputype') ?? '')
      ? formatPropertyString(properties, { defaultKey: 'cputype' })
      : undefined;
  },
};

/** Devices joined by commas, none at all included. */
const bootOrder: Field<readonly string[]> = {
  expected: 'devices such as scsi0,ide2,net0, each once',
  read: (text) => {
    const devices = text.split(',').filter((device) => device !== '');
    return devices.every(isBootable) && new Set(devices).size === devices.length ? devices : undefined;
  },
};

function isBootable(device: string): boolean {
  const isDisk = isDiskSlot('qemu', device) && !/^(?:unused|efidisk|tpmstate)/.test(device);
  return isDisk || isNetSlot(device) || /^(?:hostpci|usb)(?:\d|1[0-5])$/.test(device);
}

/** Sets what an instance computes with; for a VM also its CPU type and boot order where the form names them. */
function resourcesCall({ node, type, vmid }: Target, body: unknown): Call | Draft {
  if (type === 'lxc') {
    const form = readForm(body, { cores, memory, swap }, ['proctype', 'boot']);
    return call('PUT', '/nodes/{}/lxc/{}/config', [node, vmid], {
      cores: String(form.cores),
      memory: String(form.memory),
      swap: String(form.swap),
    });
  }
  const fields = { cores, memory, proctype: optional(processorType), boot: optional(bootOrder) };
  const { proctype, boot, ...form } = readForm(body, fields, ['swap']);
  return {
    ...call('POST', '/nodes/{}/qemu/{}/config', [node, vmid]),
    params: (before) => ({
      cores: String(form.cores),
      memory: String(form.memory),
      ...(proctype === null ? {} : { cpu: proctype }),
      ...(boot === null ? {} : { boot: bootText(boot, before) }),
    }),
  };
}

/** A boot order as PVE writes it; PVE refuses one without anything in it, and takes a lone semicolon for none. */
function bootText(devices: readonly string[], { vmid, next }: Instance): string {
  const missing = devices.filter((device) => next[device] === undefined);
  if (missing.length > 0)
    throw new BadRequestError({ field: 'boot', problem: `instance ${vmid} has no ${missing.join(', ')}` });
  return formatPropertyString([['order', devices.join(';') || ';']]);
}

/** Destroys an instance with the disks in its configuration. */
function deleteCall({ node, type, vmid }: Target, body: unknown): Call {
  readForm(body, {});
  return call('DELETE', '/nodes/{}/{}/{}', [node, type, vmid]);
}
