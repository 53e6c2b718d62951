/** How one PVE API method is written down in the simulator: one row a method, found by the router by method and path. */

import type { Duplex } from 'node:stream';
import type { Caller, Verb } from './call.ts';
import type { Cluster } from './cluster.ts';
import type { Fault } from './faults.ts';
import type { UploadedFile } from './upload.ts';

/** What one parameter may be, in PVE's own schema words. */
export interface Schema {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'array';
  readonly optional?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly enum?: readonly string[];
  /** What each element of an array may be. */
  readonly items?: Schema;
  /** Source of an anchored regular expression. */
  readonly pattern?: string;
  /** A named format checked by its own function: 'pve-vmid', 'pve-node', 'pve-storage-id', 'pve-configid-list', ... A name ending in `-list` takes lists. */
  readonly format?: string;
  /** This parameter is another name of that one. */
  readonly alias?: string;
  /** This parameter makes sense only beside that one. */
  readonly requires?: string;
  /** Of a family `net[n]`: n is below this. */
  readonly count?: number;
}

/** A published permission expression: `['perm', '/vms/{vmid}', ['VM.Audit']]`, `['or', a, b]`, `['userid-param', 'self']`, ... */
export type Check = readonly unknown[];

export type Permissions = { readonly user: 'all' | 'world' } | { readonly check: Check } | 'root@pam';

export interface Context {
  readonly cluster: Cluster;
  readonly caller: Caller;
  /** Path and other parameters, verified and typed: integers and numbers as numbers, booleans as 0 or 1, arrays as arrays, all else as strings. */
  readonly param: Readonly<Record<string, unknown>>;
  /** The node that runs the call. */
  readonly node: string;
  /** The file that came with the call. */
  readonly upload?: UploadedFile;
  /** What a test wants to go wrong with this call. */
  readonly fault?: Fault;
}

export interface MethodRow {
  readonly method: Verb;
  /** `/nodes/{node}/qemu/{vmid}/config` */
  readonly path: string;
  /** false: refused for API tokens. */
  readonly allowToken?: false;
  readonly permissions: Permissions;
  /** Parameters besides those of the path (these may be given for their schema); an indexed family is written `net[n]`. All others are a 400. */
  readonly parameters: Readonly<Record<string, Schema>>;
  /** The result goes out as `data`; throw PveError to refuse. Return `reply(data, extra)` to add keys beside `data`. */
  run(context: Context): unknown;
}

export class Reply {
  readonly data: unknown;
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(data: unknown, extra: Readonly<Record<string, unknown>>) {
    this.data = data;
    this.extra = extra;
  }
}

/** A result that becomes one end of a WebSocket where the client asks for one, and goes out as `data` where not. */
export class Tunnel {
  readonly data: unknown;
  readonly serve: (socket: Duplex) => void;

  constructor(data: unknown, serve: (socket: Duplex) => void) {
    this.data = data;
    this.serve = serve;
  }
}

/** A result that goes out as plain text, in every format. */
export class Download {
  readonly text: string;
  readonly filename: string;

  constructor(text: string, filename: string) {
    this.text = text;
    this.filename = filename;
  }
}
