/** What the surfaces are wired to. */

import type { Logger } from 'pino';
import type { Gate } from '../admission/gate.ts';
import type { Inventory } from '../admission/inventory.ts';
import type { Payers } from '../admission/payers.ts';
import type { Watch } from '../admission/watch.ts';
import type { Directory } from '../backends/directory.ts';
import type { Sessions } from '../backends/sessions.ts';
import type { Upstream } from '../pve/call.ts';
import type { ConsoleLimits } from '../pve/console.ts';
import type { Hosts } from '../pve/hosts.ts';
import type { Relay } from '../pve/relay.ts';
import type { UploadLimits } from '../pve/upload.ts';
import type { Ledger } from '../quota/ledger.ts';
import type { Resources } from '../quota/resources.ts';
import type { Load } from './load.ts';
import type { SignInLimit } from './sign-in-limit.ts';
import type { UploadPlaces } from './upload-places.ts';
import type { WebSockets } from './web-sockets.ts';

/** What the surfaces read of the configuration. */
export interface Settings {
  readonly application: {
    readonly hostname: string;
    readonly domain?: string;
    readonly corsOrigins: readonly string[];
  };
  readonly resources: Resources;
  /** Where isos and container templates are on offer. */
  readonly useriso?: { readonly node: string; readonly storage: string };
  /** Where backups are kept. */
  readonly backups?: { readonly storage: string };
  readonly clientsync: {
    /** PVE's types of resources whose changes a hash shows. */
    readonly resourcetypes: readonly string[];
    /** Rates in seconds. */
    readonly schemes: {
      readonly always: { readonly enabled: boolean };
      readonly hash: { readonly enabled: boolean };
      readonly interrupt: { readonly enabled: boolean; readonly 'min-rate': number; readonly 'max-rate': number };
    };
  };
  /** Seconds that a request waits for a task. */
  readonly taskWait: number;
  readonly limits: { readonly consoles: ConsoleLimits; readonly uploads: UploadLimits };
}

/** The rooms below, as a surface is handed them. */
export interface Rooms {
  readonly config: Settings;
  readonly version: string;
  readonly directory: Directory;
  readonly sessions: Sessions;
  readonly signInLimit: SignInLimit;
  readonly load: Load;
  readonly sockets: WebSockets;
  readonly gate: Gate;
  readonly upstream: Upstream;
  readonly relay: Relay;
  /** For what streams between the client and PVE: large reads, uploads, consoles. */
  readonly hosts: Hosts;
  /** The places for uploads. */
  readonly uploads: UploadPlaces;
  readonly inventory: Inventory;
  readonly watch: Watch;
  readonly ledger: Ledger;
  readonly payers: Payers;
  readonly log: Logger;
  /** Aborts when the server begins to end: nobody waits for a task any more. */
  readonly stopping: AbortSignal;
}
