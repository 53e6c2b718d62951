/** What the configuration opens to every tenant besides what is theirs. */

export interface Allowances {
  /** Parameters that reach beyond a guest, by name or family. */
  readonly parameters: readonly string[];
  /** Volumes by id; here and below a final `*` stands for any rest. */
  readonly volumes: readonly string[];
  /** URLs from which the nodes may fetch files for tenants. */
  readonly urls: readonly string[];
  /** Networks by bridge, or bridge and VLAN (`vmbr0/10`), to which tenants may join guests. */
  readonly networks: readonly string[];
}

/** Whether a volume, URL or network is one of those that are open. */
export function isAmong(open: readonly string[], name: string): boolean {
  return open.some((one) => (one.endsWith('*') ? name.startsWith(one.slice(0, -1)) : name === one));
}
