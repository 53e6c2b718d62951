/** A client of PVE's own API, which talks to the server as it would to PVE. */

import { type Body, type Site, secret } from './site.ts';

/** What PVE clients look at; some show only one of status line, `message` and `errors`. */
export interface PveReply {
  readonly status: number;
  /** The reason phrase of the status line. */
  readonly reason: string;
  readonly headers: Headers;
  /** Undefined where there is none. */
  readonly body: Body;
}

export type PveParams = Readonly<Record<string, string | number | readonly (string | number)[]>>;

export interface PveRequest {
  readonly format?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON in place of a form. */
  readonly json?: unknown;
}

/** Shows the same credential with every request, and fails when an answer holds the server's own secret. */
export class PveClient {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ url }: Pick<Site, 'url'>, headers: Readonly<Record<string, string>> = {}) {
    this.#url = url;
    this.#headers = headers;
  }

  /** What shows who it is. */
  get headers(): Readonly<Record<string, string>> {
    return this.#headers;
  }

  /** A user with a ticket in a cookie, as proxmoxer and browsers show it. */
  static async signIn(site: Site, name: string): Promise<PveClient> {
    const { ticket, csrf } = await ticketOf(site, name);
    return new PveClient(site, { cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}`, csrfpreventiontoken: csrf });
  }

  /** A user with an API token that has just been made. */
  static withToken(site: Site, user: string, tokenid: string, options: { readonly privsep?: boolean } = {}): PveClient {
    const value = site.cluster.access.addToken(user, tokenid, options);
    return new PveClient(site, { authorization: `PVEAPIToken=${user}!${tokenid}=${value}` });
  }

  get(path: string, request?: PveRequest): Promise<PveReply> {
    return this.send('GET', path, undefined, request);
  }

  post(path: string, params: PveParams = {}, request?: PveRequest): Promise<PveReply> {
    return this.send('POST', path, params, request);
  }

  put(path: string, params: PveParams = {}, request?: PveRequest): Promise<PveReply> {
    return this.send('PUT', path, params, request);
  }

  delete(path: string, request?: PveRequest): Promise<PveReply> {
    return this.send('DELETE', path, undefined, request);
  }

  async send(
    method: string,
    path: string,
    params: PveParams | undefined,
    { format = 'json', headers, json }: PveRequest = {},
  ): Promise<PveReply> {
    const form = params === undefined ? undefined : formOf(params);
    const type = json === undefined ? 'application/x-www-form-urlencoded' : 'application/json';
    const body = json === undefined ? form : JSON.stringify(json);
    const response = await fetch(`${this.#url}/api2/${format}${path}`, {
      method,
      headers: { ...this.#headers, ...(body === undefined ? {} : { 'content-type': type }), ...headers },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    const all = [response.statusText, ...[...response.headers].flat(), text].join('\n');
    if (all.includes(secret)) throw new Error(`${method} ${path} shows the privileged token`);
    const parsed = text === '' ? undefined : JSON.parse(text);
    return { status: response.status, reason: response.statusText, headers: response.headers, body: parsed };
  }
}

/** The ticket and CSRF token that a user of the site signs in to. */
export async function ticketOf(site: Site, name: string): Promise<{ readonly ticket: string; readonly csrf: string }> {
  const credentials = { username: `${name}@pve`, password: `${name}-secret` };
  const { status, reason, body } = await new PveClient(site).post('/access/ticket', credentials);
  if (status !== 200) throw new Error(`sign-in failed: ${status} ${reason}`);
  return { ticket: body.data.ticket, csrf: body.data.CSRFPreventionToken };
}

function formOf(params: PveParams): string {
  const pairs = Object.entries(params).flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
  return new URLSearchParams(pairs).toString();
}
