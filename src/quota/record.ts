/** A user's record after all backends were merged and old forms were normalised. */

/** A limit as a record states it, in quota units (times the resource's `multiplier` gives the real amount). */
export type Max = number | 'unlimited';

export interface NumericLimits {
  readonly global: { readonly max: Max };
  readonly nodes: Readonly<Record<string, { readonly max: Max }>>;
}

export interface ListEntry {
  readonly match: string;
  readonly name: string;
  readonly max: Max;
}

export interface ListLimits {
  readonly global: readonly ListEntry[];
  readonly nodes: Readonly<Record<string, readonly ListEntry[]>>;
}

/** Names of nodes or pools, with whether they are granted. */
export type Grants = Readonly<Record<string, boolean>>;

export interface ClusterGrants {
  readonly admin: boolean;
  readonly nodes: Grants;
  readonly pools: Grants;
  readonly vmid: { readonly min: number; readonly max: number };
  readonly backups: { readonly max: Max };
}

export interface TemplateEntry {
  readonly value: string | number;
  readonly resource: { readonly name: string; readonly amount: number } | null;
}

export interface NetworkTemplate {
  readonly type: string;
  readonly bridge: string;
  readonly vlan?: number;
  readonly ip?: string;
  readonly ip6?: string;
}

export interface Templates {
  readonly instances: {
    readonly qemu: Readonly<Record<string, TemplateEntry>>;
    readonly lxc: Readonly<Record<string, TemplateEntry>>;
  };
  readonly network: { readonly qemu?: NetworkTemplate; readonly lxc?: NetworkTemplate };
}

export interface UserRecord {
  readonly dn?: string;
  readonly attributes: Readonly<Record<string, unknown>> & { readonly memberOf: readonly string[] };
  readonly resources: Readonly<Record<string, NumericLimits | ListLimits>>;
  readonly cluster: ClusterGrants;
  readonly templates: Templates;
}

/** The names that a list grants. */
export function grantedNames(list: Grants): string[] {
  return Object.keys(list).filter((name) => list[name] === true);
}

/** Whether a list grants a name. */
export function grants(list: Grants, name: string): boolean {
  return Object.hasOwn(list, name) && list[name] === true;
}
