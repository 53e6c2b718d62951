/** What goes over the wire for a call, built from named parts, so that PVE reads back exactly what the call says. */

import type { Call, Credential, Method, Params } from './call.ts';
import { writePath } from './path.ts';

/** One HTTP request to PVE. */
export interface WireRequest {
  readonly method: Method;
  /** Path and query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
}

/** The request of a call; throws a TypeError for a path that PVE could read as another one, and for a credential that no header can carry. */
export function wireRequest({ method, segments, params }: Call, as: Credential, serviceToken: string): WireRequest {
  const path = `/api2/json${writePath(segments)}`;
  const text = encodeParams(params);
  const headers = { accept: 'application/json', ...credentialHeaders(method, as, serviceToken) };
  // PVE refuses a body on GET and DELETE with 501.
  if (method === 'GET' || method === 'DELETE')
    return { method, path: text === '' ? path : `${path}?${text}`, headers, body: null };
  return { method, path, headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' }, body: text };
}

/** PVE splits at `&` and `;` and drops what follows a second `=`, so all of them are encoded; a repeated name makes an array. */
function encodeParams(params: Params): string {
  return Object.entries(params)
    .flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : value.map((item) => [name, item])))
    .map((pair) => pair.map((text) => encodeURIComponent(text.toWellFormed())).join('='))
    .join('&');
}

function credentialHeaders(method: Method, as: Credential, serviceToken: string): Record<string, string> {
  switch (as.kind) {
    case 'none':
      return {};
    case 'service':
      return { authorization: `PVEAPIToken=${serviceToken}` };
    case 'token':
      return { authorization: `PVEAPIToken=${headerText(as.token)}` };
    case 'ticket': {
      const cookie = { cookie: `PVEAuthCookie=${encodeURIComponent(as.ticket)}` };
      return method === 'GET' || as.csrf === undefined
        ? cookie
        : { ...cookie, csrfpreventiontoken: headerText(as.csrf) };
    }
  }
}

function headerText(text: string): string {
  if (!/^[\x21-\x7e]+$/.test(text)) throw new TypeError('a credential holds a character that no header can carry');
  return text;
}
