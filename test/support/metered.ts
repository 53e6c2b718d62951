/** A tenant who speaks PVE's own words to the server, for stories about what is held afterwards. */

import { expect } from 'vitest';
import { addGuest } from '../../simulator/administrator.ts';
import { range } from './scale.ts';
import type { Body, Site } from './site.ts';

/** What the server said. */
export interface Said {
  readonly status: number;
  readonly data: Body;
  /** Its sentence, and what it says of single parameters. */
  readonly text: string;
}

type Values = Readonly<Record<string, string | number | readonly (string | number)[]>>;

/** Signs in and gives the calls that this user then makes below `/api2/json`; each waits until nothing is under way any more. */
export async function metered(site: Site, name: string) {
  const { cookies } = await site.signIn(name);
  const headers = {
    cookie: `PVEAuthCookie=${cookies.get('PVEAuthCookie')}`,
    csrfpreventiontoken: decodeURIComponent(cookies.get('CSRFPreventionToken') ?? ''),
  };
  const send = async (method: string, path: string, values: Values = {}): Promise<Said> => {
    const form = new URLSearchParams();
    for (const [key, value] of Object.entries(values)) for (const one of [value].flat()) form.append(key, String(one));
    const inQuery = method === 'GET' || method === 'DELETE';
    const response = await fetch(`${site.url}/api2/json${path}${inQuery && form.size > 0 ? `?${form}` : ''}`, {
      method,
      headers: inQuery ? headers : { ...headers, 'content-type': 'application/x-www-form-urlencoded' },
      ...(inQuery ? {} : { body: form.toString() }),
    });
    const { data, message = '', errors = {} }: Body = await response.json();
    await site.settled();
    return { status: response.status, data, text: `${message}${JSON.stringify(errors)}` };
  };
  return {
    get: (path: string, values?: Values) => send('GET', path, values),
    post: (path: string, values?: Values) => send('POST', path, values),
    put: (path: string, values?: Values) => send('PUT', path, values),
    delete: (path: string, values?: Values) => send('DELETE', path, values),
  };
}

export type Metered = Awaited<ReturnType<typeof metered>>;

/** Leaves a user, in their hundred of vmids, with a small VM under the first and a small container under the second, and nothing else. */
export async function startOver(site: Site, name: string, first: number): Promise<void> {
  const { cluster, faults } = site.simulator;
  faults.clear();
  cluster.tasks.pace = 'at once';
  cluster.tasks.finishAll();
  await site.settled();
  for (const vmid of range(100).map((n) => first + n)) {
    for (const volume of cluster.volumes.ofGuest(vmid)) cluster.volumes.remove(volume);
    cluster.guests.delete(vmid);
    cluster.leave(vmid);
  }
  const disk = (vmid: number) => `ceph:vm-${vmid}-disk-0,size=4G`;
  addGuest(cluster, {
    ...{ vmid: first, pool: name, config: { cores: 1, memory: 512, scsi0: disk(first) } },
  });
  addGuest(cluster, {
    ...{ vmid: first + 1, type: 'lxc', pool: name },
    config: { cores: 1, memory: 512, swap: 0, unprivileged: 1, rootfs: disk(first + 1) },
  });
  await site.refresh();
}

/** How many calls PVE was sent that change something of the cluster; signing in does not. */
function writesAt({ simulator }: Site): number {
  return simulator.requests.filter(({ method, path }) => method !== 'GET' && !/^\/(?:access|version)/.test(path))
    .length;
}

/** Expects that the server refuses, says this, and does not let PVE hear of it. */
export async function expectRefused(
  site: Site,
  call: () => Promise<Said>,
  why: RegExp,
  status?: number,
): Promise<void> {
  const before = writesAt(site);
  const said = await call();
  expect(said.text).toMatch(why);
  expect(said.status, said.text).toBe(status ?? (said.status === 403 ? 403 : 400));
  expect(writesAt(site)).toBe(before);
}

/** Expects that what is booked for a user is what their guests really hold. */
export function expectTruth(site: Site, name: string, vmids: Iterable<number>): void {
  const booked = Object.entries(site.booked(name)).filter(([key]) => !/^(?:backups|device|pci) /.test(key));
  expect(Object.fromEntries(booked)).toEqual(site.truth(vmids));
}
