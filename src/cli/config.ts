/** `config check`, `config print`, `config schema`. */

import { configJsonSchema, loadConfig, printConfig } from '../config.ts';
import type { Command } from './command.ts';

export const configCommands: readonly Command[] = [
  {
    name: 'config check',
    usage: '',
    summary: 'tell every fault of the configuration, without starting anything',
    run: ({ configFile, print }) => {
      loadConfig(configFile);
      print(`${configFile} is right.`);
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
