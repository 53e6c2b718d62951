/** Looks at the cluster for those who want to hear of changes at once: one look for all of them, and none when nobody listens. */

import type { Logger } from 'pino';
import type { ClusterNode, Guest } from '../pve/listing.ts';
import type { Inventory } from './inventory.ts';

/** What was different at a look: some node's state, or instances in these pools (in those that they left as well). */
export interface Changes {
  readonly nodes: boolean;
  readonly pools: ReadonlySet<string>;
}

/** The part of the cluster that is watched. */
export interface View {
  readonly nodes: readonly ClusterNode[];
  readonly guests: ReadonlyMap<number, Guest>;
}

/** One who listens. */
export interface Listening {
  /** Asks for a look every so many seconds; until then one hears of what others had looked for. */
  every(seconds: number): void;
  end(): void;
}

type Listener = (changes: Changes) => void;

/** Tells listeners of changes, as often as the most eager one asks. The first look of all finds everything changed. */
export class Watch {
  readonly #inventory: Pick<Inventory, 'list' | 'nodes' | 'guests'>;
  readonly #log: Pick<Logger, 'warn'>;
  /** Seconds between two looks, by who wants them; Infinity before they have said. */
  readonly #rates = new Map<Listener, number>();
  #seen: View = { nodes: [], guests: new Map() };
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  /** When the last look began, or since when somebody has wanted one; monotonic ms. */
  #since: number | undefined;

  constructor({
    inventory,
    log,
  }: { inventory: Pick<Inventory, 'list' | 'nodes' | 'guests'>; log: Pick<Logger, 'warn'> }) {
    this.#inventory = inventory;
    this.#log = log;
  }

  listen(listener: Listener): Listening {
    this.#rates.set(listener, Infinity);
    return {
      every: (seconds) => {
        if (!this.#rates.has(listener)) return;
        this.#rates.set(listener, seconds);
        this.#plan();
      },
      end: () => {
        this.#rates.delete(listener);
        this.#plan();
      },
    };
  }

  /** Plans the next look; PVE being slow delays it. */
  #plan(): void {
    clearTimeout(this.#timer);
    if (this.#looking) return;
    const seconds = Math.min(...this.#rates.values());
    if (seconds === Infinity) {
      this.#since = undefined;
      return;
    }
    this.#since ??= performance.now();
    const wait = this.#since + seconds * 1000 - performance.now();
    this.#timer = setTimeout(() => void this.#look(), Math.max(0, wait));
  }

  async #look(): Promise<void> {
    this.#looking = true;
    this.#since = performance.now();
    try {
      await this.#inventory.list();
      this.#tell();
    } catch (error) {
      this.#log.warn({ err: error }, 'PVE could not be looked at for those who wait for changes; trying again');
    }
    this.#looking = false;
    this.#plan();
  }

  #tell(): void {
    const now: View = { nodes: this.#inventory.nodes, guests: new Map(this.#inventory.guests) };
    const changes = changesBetween(this.#seen, now);
    this.#seen = now;
    if (!changes.nodes && changes.pools.size === 0) return;
    for (const listener of this.#rates.keys()) listener(changes);
  }
}

/** What differs between two views in what dashboards show: the states of nodes, and names, states and places of instances. */
export function changesBetween(before: View, after: View): Changes {
  const pools = new Set<string>();
  const touch = (guest: Guest | undefined) => {
    if (guest?.pool !== undefined) pools.add(guest.pool);
  };
  for (const vmid of new Set([...before.guests.keys(), ...after.guests.keys()])) {
    const [then, now] = [before.guests.get(vmid), after.guests.get(vmid)];
    if (shownOf(then) === shownOf(now)) continue;
    touch(then);
    touch(now);
  }
  return { nodes: statesOf(before.nodes) !== statesOf(after.nodes), pools };
}

function shownOf(guest: Guest | undefined): string {
  return guest === undefined ? '' : JSON.stringify([guest.type, guest.name, guest.status, guest.node, guest.pool]);
}

function statesOf(nodes: readonly ClusterNode[]): string {
  return JSON.stringify(nodes.map(({ node, status }) => [node, status]).toSorted());
}
