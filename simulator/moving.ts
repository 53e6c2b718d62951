/** Where a volume is to go. */

import type { Context } from './method.ts';
import { parameterError } from './pve-error.ts';

/** Copies to another storage or gives to another guest: the parameters have to name exactly one of the two. */
export function copyOrGive({ param }: Context, copy: (storage: string) => string, give: () => string): string {
  const { storage, 'target-vmid': target } = param;
  if (storage !== undefined && target !== undefined) {
    throw parameterError({ storage: "either set 'storage' or 'target-vmid', but not both" });
  }
  if (target !== undefined) return give();
  if (storage === undefined) {
    throw parameterError({ storage: "one of the parameters 'storage' or 'target-vmid' is required" });
  }
  return copy(String(storage));
}
