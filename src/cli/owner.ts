/** `owner list`, `owner set`: who pays for which guest. */

import { claimOf } from '../admission/payers.ts';
import { parseUserName } from '../backends/backend.ts';
import { type Directory, openDirectory } from '../backends/directory.ts';
import { type Config, loadConfig, pveSettings } from '../config.ts';
import { call, succeeded } from '../pve/call.ts';
import { type Guest, readResources } from '../pve/listing.ts';
import { createUpstream } from '../pve/upstream.ts';
import { Ledger } from '../quota/ledger.ts';
import type { UserRecord } from '../quota/record.ts';
import { openDatabase } from '../store/database.ts';
import { type Command, UsageError } from './command.ts';
import { table } from './table.ts';

export const ownerCommands: readonly Command[] = [
  {
    name: 'owner list',
    usage: '',
    summary: 'every guest of the cluster with who pays for it, and why',
    run: async ({ configFile, print }) => {
      const rows = await withPayers(configFile, async ({ ledger, guests }) =>
        guests.map(({ vmid, type, node, pool, name }) => {
          const recorded = ledger.recordedPayers(vmid).length > 0;
          const payers = ledger.payersOf(vmid);
          const why =
            payers.length === 0 ? 'no user claims its vmid or pool' : recorded ? 'recorded' : 'by vmid range or pool';
          return [String(vmid), type, node, pool ?? '-', name || '-', payers.join(', ') || 'NOBODY', why];
        }),
      );
      for (const line of table([['vmid', 'type', 'node', 'pool', 'name', 'paid for by', 'why'], ...rows])) print(line);
      return 0;
    },
  },
  {
    name: 'owner set',
    usage: 'VMID USER... | VMID none',
    summary: 'record who pays for a guest; none: whoever claims its vmid or pool',
    run: async ({ args, configFile, print }) => {
      const [vmid = '', ...users] = args;
      if (users.length === 0) throw new UsageError('Expected: owner set VMID USER... (or none)');
      if (!/^[1-9]\d{2,8}$/.test(vmid)) throw new UsageError(`Expected a vmid from 100 to 999999999, got ${vmid}.`);
      const named = users.length === 1 && users[0] === 'none' ? [] : users;
      const wrong = named.find((user) => parseUserName(user) === null);
      if (wrong !== undefined) throw new UsageError(`Expected user names such as alice@pve, got ${wrong}.`);
      await withPayers(configFile, async ({ ledger, guests }) => {
        if (!guests.some((guest) => guest.vmid === Number(vmid))) throw new UsageError(`There is no guest ${vmid}.`);
        ledger.assign(Number(vmid), named);
        print(`${vmid}: paid for by ${ledger.payersOf(Number(vmid)).join(', ') || 'NOBODY'}`);
      });
      return 0;
    },
  },
];

interface Found {
  readonly config: Config;
  readonly ledger: Ledger;
  readonly guests: readonly Guest[];
  readonly records: ReadonlyMap<string, UserRecord>;
}

/** The ledger with every guest that PVE lists now; the server may be running meanwhile and sees what is recorded. */
export async function withPayers<T>(configFile: string, use: (found: Found) => Promise<T> | T): Promise<T> {
  const config = loadConfig(configFile);
  const log = {
    info: () => {},
    warn: (...said: unknown[]) => console.error(said.filter((part) => typeof part === 'string').join(' ')),
  };
  const database = openDatabase(config.database);
  const upstream = createUpstream(pveSettings(config), { log });
  let directory: Directory | undefined;
  try {
    directory = await openDirectory(config, { configFile, log, database, upstream });
    const answer = await upstream.send(call('GET', '/cluster/resources', [], { type: 'vm' }), { kind: 'service' });
    if (!succeeded(answer)) throw new UsageError(`PVE does not list its guests: ${answer.status} ${answer.reason}`);
    const ledger = new Ledger(database);
    const { guests } = readResources(answer.data);
    for (const guest of guests) ledger.list(guest, ledger.stamp());
    const records = await directory.records();
    ledger.setClaims([...records].flatMap(([user, record]) => claimOf(user, record)));
    return await use({ config, ledger, guests, records });
  } finally {
    await directory?.close();
    await upstream.close();
    database.close();
  }
}
