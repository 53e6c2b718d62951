/** `config check`, `config print`, `config schema`. */

import { configJsonSchema, hintsOf, loadConfig, printConfig } from '../config.ts';
import type { Command } from './command.ts';

export const configCommands: readonly Command[] = [
  {
    name: 'config check',
    usage: '',
    summary: 'tell every fault of the configuration, and what is hardly wanted, without starting anything',
    run: ({ configFile, print }) => {
      const config = loadConfig(configFile);
      print(`${configFile} is right.`);
      for (const hint of hintsOf(config)) print(`But see ${hint}`);
      return 0;
    },
  },
  {
    name: 'config print',
    usage: '',
    summary: 'the configuration in force, defaults included, secrets masked',
    run: ({ configFile, print }) => {
      print(printConfig(loadConfig(configFile, { secrets: 'unread' })));
      return 0;
    },
  },
  {
    name: 'config schema',
    usage: '',
    summary: 'the JSON schema of the configuration, for completion in editors',
    run: ({ print }) => {
      print(JSON.stringify(configJsonSchema(), null, 2));
      return 0;
    },
  },
];
