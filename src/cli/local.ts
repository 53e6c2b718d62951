/** The local users, for commands; the server may be running meanwhile and sees the changes. */

import { kindOf } from '../backends/index.ts';
import { type Imported, LocalBackend, type LocalSettings } from '../backends/local.ts';
import { type Config, loadConfig } from '../config.ts';
import { openDatabase } from '../store/database.ts';
import { UsageError } from './command.ts';

/**
 * Opens the local users of a configuration for the time of `use`, secrets unread. When nothing was ever stored there,
 * the file that the configuration names is imported first, as the server would do at its start.
 */
export function withLocalUsers<T>(configFile: string, use: (local: LocalBackend, config: Config) => T): T {
  const config = loadConfig(configFile, { secrets: 'unread' });
  const entry = Object.values(config.backends).find((backend) => kindOf(backend) === 'localdb');
  if (entry === undefined)
    throw new UsageError(`${configFile} has no backend that imports "localdb", so there are no local users.`);
  const { dbfile } = entry.config as LocalSettings;
  const database = openDatabase(config.database);
  try {
    const local = new LocalBackend(database, config.resources);
    const { problem }: Imported = dbfile === undefined ? {} : local.importOnce(dbfile, new Date());
    if (problem !== undefined) console.error(`dbfile of localdb: ${problem}`);
    return use(local, config);
  } finally {
    database.close();
  }
}
