/** How two clients of PVE's access control write their requests, function by function of their modules. */

import type { PveReply } from './pve-client.ts';
import type { Body, Site } from './site.ts';

export type Values = Readonly<Record<string, string | number>>;

type Send = (method: string, path: string, values?: Values) => Promise<PveReply>;

/** A client, and what of it nobody has used yet. */
export interface Noted<Client> {
  readonly client: Client;
  unused(): readonly string[];
}

function noted<Client extends object>(client: Client): Noted<Client> {
  const unused = new Set(Object.keys(client));
  const noting = new Proxy(client, {
    get(target, name, receiver) {
      unused.delete(String(name));
      return Reflect.get(target, name, receiver);
    },
  });
  return { client: noting, unused: () => [...unused] };
}

async function replyOf(response: Response): Promise<PveReply> {
  const text = await response.text();
  const body: Body = text === '' ? undefined : JSON.parse(text);
  return { status: response.status, reason: response.statusText, headers: response.headers, body };
}

/**
 * Perl's Net::Proxmox::VE with its modules Access and Pools: looks at the nodes before each call, encodes nothing, names
 * no content type.
 */
export function perlClient({ url }: Pick<Site, 'url'>, headers: Readonly<Record<string, string>>) {
  const send: Send = async (method, path, values = {}) => {
    await (await fetch(`${url}/api2/json/nodes`, { headers })).arrayBuffer();
    const text = Object.keys(values)
      .sort()
      .map((name) => `${name}=${values[name]}`)
      .join('&');
    const inQuery = method === 'GET' || method === 'DELETE';
    const response = await fetch(`${url}/api2/json${path}${inQuery && text !== '' ? `?${text}` : ''}`, {
      method,
      headers,
      // Bytes, so that the request names no content type.
      ...(inQuery || text === '' ? {} : { body: Buffer.from(text) }),
    });
    return replyOf(response);
  };
  return noted({
    api_version: () => send('GET', '/version'),
    access: () => send('GET', '/access'),
    access_domains: () => send('GET', '/access/domains'),
    create_access_domains: (values: Values) => send('POST', '/access/domains', values),
    get_access_domains: (realm: string) => send('GET', `/access/domains/${realm}`),
    update_access_domains: (realm: string, values: Values) => send('PUT', `/access/domains/${realm}`, values),
    delete_access_domains: (realm: string) => send('DELETE', `/access/domains/${realm}`),
    sync_access_domains: (realm: string, values: Values) => send('POST', `/access/domains/${realm}/sync`, values),
    access_groups: () => send('GET', '/access/groups'),
    create_access_groups: (values: Values) => send('POST', '/access/groups', values),
    get_access_groups: (group: string) => send('GET', `/access/groups/${group}`),
    update_access_groups: (group: string, values: Values) => send('PUT', `/access/groups/${group}`, values),
    delete_access_groups: (group: string) => send('DELETE', `/access/groups/${group}`),
    access_roles: () => send('GET', '/access/roles'),
    create_access_roles: (values: Values) => send('POST', '/access/roles', values),
    get_access_roles: (role: string) => send('GET', `/access/roles/${role}`),
    update_access_roles: (role: string, values: Values) => send('PUT', `/access/roles/${role}`, values),
    delete_access_roles: (role: string) => send('DELETE', `/access/roles/${role}`),
    access_users: () => send('GET', '/access/users'),
    create_access_users: (values: Values) => send('POST', '/access/users', values),
    get_access_users: (user: string) => send('GET', `/access/users/${user}`),
    update_access_users: (user: string, values: Values) => send('PUT', `/access/users/${user}`, values),
    delete_access_users: (user: string) => send('DELETE', `/access/users/${user}`),
    get_access_acl: () => send('GET', '/access/acl'),
    update_access_acl: (values: Values) => send('PUT', '/access/acl', values),
    update_access_password: (values: Values) => send('PUT', '/access/password', values),
    pools: () => send('GET', '/pools'),
    get_pool: (pool: string) => send('GET', `/pools/${pool}`),
    create_pool: (values: Values) => send('POST', '/pools', values),
    update_pool: (pool: string, values: Values) => send('PUT', `/pools/${pool}`, values),
    delete_pool: (pool: string) => send('DELETE', `/pools/${pool}`),
  });
}

/** The identity service of Ruby's fog-proxmox: forms in full, pools by parameter behind a slash. */
export function fogClient({ url }: Pick<Site, 'url'>, headers: Readonly<Record<string, string>>) {
  const send = async (method: string, path: string, values: Values = {}, query: Values = {}): Promise<PveReply> => {
    const encoded = (of: Values) =>
      new URLSearchParams(Object.entries(of).map(([name, value]) => [name, String(value)]));
    const search = Object.keys(query).length === 0 ? '' : `?${encoded(query)}`;
    const response = await fetch(`${url}/api2/json/${path}${search}`, {
      method,
      headers: { accept: 'application/json', ...headers },
      ...(Object.keys(values).length === 0 ? {} : { body: encoded(values) }),
    });
    return replyOf(response);
  };
  return noted({
    read_version: () => send('GET', 'version'),
    check_permissions: (principal: Values) => send('POST', 'access/ticket', principal),
    list_permissions: () => send('GET', 'access/acl'),
    list_user_permissions: (userid: string, path?: string) =>
      send('GET', 'access/permissions', {}, { userid, ...(path === undefined ? {} : { path }) }),
    update_permissions: (values: Values) => send('PUT', 'access/acl', values),
    list_users: (query: Values = {}) => send('GET', 'access/users', {}, query),
    get_user: (user: string) => send('GET', `access/users/${user}`),
    create_user: (values: Values) => send('POST', 'access/users', values),
    update_user: (user: string, values: Values) => send('PUT', `access/users/${user}`, values),
    delete_user: (user: string) => send('DELETE', `access/users/${user}`),
    change_password: (userid: string, password: string, more: Values = {}) =>
      send('PUT', 'access/password', { userid, password, ...more }),
    list_tokens: (user: string) => send('GET', `access/users/${user}/token`),
    get_token_info: (user: string, token: string) => send('GET', `access/users/${user}/token/${token}`),
    create_token: (user: string, token: string, values: Values = {}) =>
      send('POST', `access/users/${user}/token/${token}`, values),
    update_token: (user: string, token: string, values: Values) =>
      send('PUT', `access/users/${user}/token/${token}`, values),
    delete_token: (user: string, token: string) => send('DELETE', `access/users/${user}/token/${token}`),
    list_groups: () => send('GET', 'access/groups'),
    get_group: (group: string) => send('GET', `access/groups/${group}`),
    create_group: (values: Values) => send('POST', 'access/groups', values),
    update_group: (group: string, values: Values) => send('PUT', `access/groups/${group}`, values),
    delete_group: (group: string) => send('DELETE', `access/groups/${group}`),
    list_roles: () => send('GET', 'access/roles'),
    get_role: (role: string) => send('GET', `access/roles/${role}`),
    create_role: (values: Values) => send('POST', 'access/roles', values),
    update_role: (role: string, values: Values) => send('PUT', `access/roles/${role}`, values),
    delete_role: (role: string) => send('DELETE', `access/roles/${role}`),
    list_domains: () => send('GET', 'access/domains'),
    get_domain: (realm: string) => send('GET', `access/domains/${realm}`),
    create_domain: (values: Values) => send('POST', 'access/domains', values),
    update_domain: (realm: string, values: Values) => send('PUT', `access/domains/${realm}`, values),
    delete_domain: (realm: string) => send('DELETE', `access/domains/${realm}`),
    list_pools: () => send('GET', 'pools'),
    get_pool: (poolid: string) => send('GET', 'pools/', {}, { poolid }),
    create_pool: (values: Values) => send('POST', 'pools', values),
    update_pool: (poolid: string, values: Values) => send('PUT', 'pools/', values, { poolid }),
    delete_pool: (poolid: string) => send('DELETE', 'pools/', {}, { poolid }),
  });
}
