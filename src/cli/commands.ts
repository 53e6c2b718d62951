/** Every command, in the order of `--help`. */

import type { Command } from './command.ts';
import { configCommands } from './config.ts';
import { decisionsCommand } from './decisions.ts';
import { importCommand } from './import.ts';
import { ownerCommands } from './owner.ts';
import { policyCommand } from './policy.ts';
import { recordCommands } from './record.ts';
import { usageCommand } from './usage.ts';

export const commands: readonly Command[] = [
  ...configCommands,
  importCommand,
  ...recordCommands,
  ...ownerCommands,
  usageCommand,
  decisionsCommand,
  policyCommand,
];
