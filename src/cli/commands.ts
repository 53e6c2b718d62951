/** Every command, in the order of `--help`. */

import type { Command } from './command.ts';
import { configCommands } from './config.ts';
import { importCommand } from './import.ts';
import { ownerCommands } from './owner.ts';
import { policyCommand } from './policy.ts';
import { recordCommands } from './record.ts';

export const commands: readonly Command[] = [
  ...configCommands,
  importCommand,
  ...recordCommands,
  ...ownerCommands,
  policyCommand,
];
