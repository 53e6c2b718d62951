/** PVE's named formats of single values. A format that is not here is checked by the method that takes it. */

import { isIP } from 'node:net';
import { privileges } from './roles.ts';

interface NamedFormat {
  matches(value: string): boolean;
  /** What PVE says about a value that does not. */
  readonly fault: string;
}

function pattern(expression: RegExp, fault: string): NamedFormat {
  return { matches: (value) => expression.test(value), fault };
}

const dnsName = /^([a-z0-9]([a-z0-9-]*[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i;

const formats: Readonly<Record<string, NamedFormat>> = {
  'pve-vmid': pattern(/^[1-9][0-9]{2,8}$/, 'value does not look like a valid VM ID'),
  'pve-node': pattern(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/i, 'value does not look like a valid node name'),
  'pve-storage-id': pattern(/^[a-z][a-z0-9_.-]*[a-z0-9]$/i, 'value does not look like a valid storage ID'),
  'pve-configid': pattern(/^[a-z][a-z0-9_-]+$/i, 'invalid configuration ID'),
  'pve-realm': pattern(/^[a-z][a-z0-9._-]+$/i, 'value does not look like a valid realm'),
  'pve-userid': pattern(/^(?=.{3,64}$)[^\s:/]+@[a-z][a-z0-9._-]+$/i, 'value does not look like a valid user name'),
  'pve-tokenid': pattern(
    /^[^\s:/]+@[a-z][a-z0-9._-]+![a-z][a-z0-9._-]+$/i,
    'value does not look like a valid token ID',
  ),
  'pve-groupid': pattern(/^[a-z0-9._-]+$/i, 'group name contains invalid characters'),
  'pve-roleid': pattern(/^[a-z0-9._-]+$/i, 'role name contains invalid characters'),
  'pve-poolid': pattern(/^([a-z0-9._-]+\/){0,2}[a-z0-9._-]+$/i, 'pool name contains invalid characters'),
  'pve-priv': { matches: (value) => privileges.has(value), fault: 'invalid privilege' },
  'pve-volume-id': pattern(/^[a-z][a-z0-9_.-]*[a-z0-9]:.+$/i, 'unable to parse volume ID'),
  'pve-bridge-id': pattern(/^[-_.\w]+$/, 'invalid bridge ID'),
  'pve-iface': pattern(/^[a-z][a-z0-9_]{1,20}([:.]\d+)?$/i, 'invalid network interface name'),
  'pve-task-status-type': pattern(/^(unknown|error|warning|ok)$/i, 'invalid status type'),
  'mac-addr': pattern(/^[a-f0-9][02468ace](:[a-f0-9]{2}){5}$/i, 'value does not look like a valid unicast MAC address'),
  'disk-size': pattern(/^\d+(\.\d+)?([KMGT](iB)?)?$/, 'value does not look like a valid disk size'),
  'dns-name': pattern(dnsName, 'value does not look like a valid DNS name'),
  address: {
    matches: (value) => isIP(value) !== 0 || dnsName.test(value),
    fault: 'value does not look like a valid address',
  },
  'email-opt': pattern(
    /^([\w+-~]+(\.[\w+-~]+)*@[a-z0-9-]+(\.[a-z0-9-]+)*)?$/i,
    'value does not look like a valid email address',
  ),
};

/** What is wrong with the value; undefined when nothing is. A format ending in `-list` takes any number of values. */
export function formatFault(format: string, value: string): string | undefined {
  const isList = format.endsWith('-list');
  const named = formats[isList ? format.slice(0, -'-list'.length) : format];
  if (named === undefined) return undefined;
  const values = isList ? splitList(value) : [value];
  return values.every((single) => named.matches(single)) ? undefined : named.fault;
}

/** The parts of a list parameter: split at comma, semicolon and white space, or only at NUL if there is one; none when it was not sent. */
export function splitList(list: unknown): readonly string[] {
  const text = list === undefined ? '' : String(list);
  return text.split(text.includes('\0') ? '\0' : /[,;\s]+/).filter((part) => part !== '');
}
