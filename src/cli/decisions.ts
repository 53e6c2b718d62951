/** `decisions`: who changed what, what was refused and why, and what became of it. */

import { loadConfig } from '../config.ts';
import type { Overrun } from '../errors.ts';
import { type KeptDecision, LedgerStore } from '../quota/ledger-store.ts';
import { openDatabase } from '../store/database.ts';
import { type Command, UsageError } from './command.ts';

export const decisionsCommand: Command = {
  name: 'decisions',
  usage: '[USER | VMID]',
  summary: 'what was decided about changes in the last 30 days: all, or by one user, or about one guest',
  run: ({ args: [about, ...more], configFile, print }) => {
    if (more.length > 0) throw new UsageError('Expected: decisions [USER | VMID]');
    const database = openDatabase(loadConfig(configFile, { secrets: 'unread' }).database);
    try {
      const wanted = about !== undefined && /^\d+$/.test(about) ? Number(about) : about;
      for (const decision of new LedgerStore(database).decisions(wanted)) print(described(decision));
      return 0;
    } finally {
      database.close();
    }
  },
};

function described({ at, user, address, call, vmid, verdict, detail, upid, outcome }: KeptDecision): string {
  const guest = vmid === undefined || vmid < 0 ? '' : ` (${vmid})`;
  const said = verdict === 'allowed' ? [outcome ?? 'not settled yet', upid] : [reasonIn(detail)];
  const words = [`${call}${guest}: ${verdict}`, ...said.filter((text) => text !== undefined)].join(', ');
  // What came from a client tells the terminal nothing.
  return `${new Date(at).toISOString()} ${user} ${address} ${words}`.replaceAll(/\p{Cc}/gu, '?');
}

/** A refusal is kept as its message, or as the limits that would have been broken. */
function reasonIn(detail: unknown): string {
  return typeof detail === 'string' ? detail : (detail as Overrun[]).map(({ sentence }) => sentence).join('; ');
}
