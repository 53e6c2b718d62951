/** PVE 9's privileges and the roles it brings along. */

interface PrivilegeGroup {
  readonly root: readonly string[];
  readonly admin: readonly string[];
  readonly user: readonly string[];
  readonly audit: readonly string[];
}

/** By who should have them, weakest last; each role of a group holds its own part and all weaker ones. */
const groups = {
  VM: {
    root: [],
    admin: [
      ...['VM.Allocate', 'VM.Clone', 'VM.Config.CPU', 'VM.Config.Disk', 'VM.Config.HWType', 'VM.Config.Memory'],
      ...['VM.Config.Network', 'VM.Config.Options', 'VM.GuestAgent.Unrestricted', 'VM.Migrate', 'VM.Replicate'],
      ...['VM.Snapshot', 'VM.Snapshot.Rollback'],
    ],
    user: [
      ...['VM.Backup', 'VM.Config.CDROM', 'VM.Config.Cloudinit', 'VM.Console', 'VM.PowerMgmt'],
      ...['VM.GuestAgent.FileRead', 'VM.GuestAgent.FileSystemMgmt', 'VM.GuestAgent.FileWrite'],
    ],
    audit: ['VM.Audit', 'VM.GuestAgent.Audit'],
  },
  Sys: {
    root: ['Sys.AccessNetwork', 'Sys.Incoming', 'Sys.Modify', 'Sys.PowerMgmt'],
    admin: ['Sys.Console', 'Sys.Syslog'],
    user: [],
    audit: ['Sys.Audit'],
  },
  Datastore: {
    root: [],
    admin: ['Datastore.Allocate', 'Datastore.AllocateTemplate'],
    user: ['Datastore.AllocateSpace'],
    audit: ['Datastore.Audit'],
  },
  SDN: { root: [], admin: ['SDN.Allocate'], user: ['SDN.Use'], audit: ['SDN.Audit'] },
  User: {
    root: ['Realm.Allocate'],
    admin: ['Group.Allocate', 'Realm.AllocateUser', 'User.Modify'],
    user: [],
    audit: [],
  },
  Pool: { root: [], admin: ['Pool.Allocate'], user: ['Pool.Audit'], audit: ['Pool.Audit'] },
  Mapping: { root: [], admin: ['Mapping.Modify'], user: ['Mapping.Use'], audit: ['Mapping.Audit'] },
  Permissions: { root: ['Permissions.Modify'], admin: [], user: [], audit: [] },
} satisfies Record<string, PrivilegeGroup>;

const all: readonly PrivilegeGroup[] = Object.values(groups);

/** Every privilege that exists; a check that names another one is an error. */
export const privileges: ReadonlySet<string> = new Set(
  all.flatMap(({ root, admin, user, audit }) => [...root, ...admin, ...user, ...audit]).sort(),
);

const overall: readonly [string, readonly string[]][] = [
  ['Administrator', [...privileges]],
  ['NoAccess', []],
  // Mapping.Modify decides which host devices exist for guests, so it stays with its own role and the Administrator.
  [
    'PVEAdmin',
    all.flatMap(({ admin, user, audit }) => [...admin, ...user, ...audit]).filter((priv) => priv !== 'Mapping.Modify'),
  ],
  ['PVEAuditor', all.flatMap(({ audit }) => audit)],
  ['PVETemplateUser', ['VM.Audit', 'VM.Clone']],
];

const byGroup = Object.entries<PrivilegeGroup>(groups).flatMap(
  ([group, { admin, user, audit }]): [string, readonly string[]][] => [
    ...(admin.length > 0 ? [[`PVE${group}Admin`, [...admin, ...user, ...audit]] satisfies [string, string[]]] : []),
    ...(user.length > 0 ? [[`PVE${group}User`, [...user, ...audit]] satisfies [string, string[]]] : []),
  ],
);

/** The roles that cannot be changed, with their privileges. */
export const builtInRoles: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  [...overall, ...byGroup].map(([role, held]) => [role, new Set(held)]),
);
