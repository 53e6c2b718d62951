/** What a backend can do: the interface for those who write their own. */

/** `id@realm`; the realm is what follows the last `@`. */
export interface UserName {
  readonly id: string;
  readonly realm: string;
}

/** A user's name as PVE writes it. */
export type UserId = `${string}@${string}`;

/** `id@realm`; PVE's own groups belong to no realm. */
export interface GroupName {
  readonly id: string;
  readonly realm?: string;
}

/** The top-level keys of a user's data that a backend may supply. */
export type RecordKey = 'dn' | 'attributes' | 'resources' | 'cluster' | 'templates';

/** What a backend knows of a user or a group; only its declared keys are used. */
export type BackendData = Readonly<Partial<Record<RecordKey, unknown>>>;

/** A cookie that a backend wants to keep at the browser for the session. */
export interface BackendCookie {
  readonly name: string;
  readonly value: string;
  readonly expiresMSFromNow: number;
}

/** The outcome of a change or a sign-in; `status` in HTTP's numbers, `message` for the user. */
export interface BackendResult {
  readonly ok: boolean;
  readonly status: number;
  readonly message: string;
  readonly cookies?: readonly BackendCookie[];
  /** The name of the user as the backend writes it, where that may differ from what was typed. */
  readonly username?: string;
}

/** Who asks: the caller's name and the cookies of their session, by name. */
export interface Requester {
  readonly username?: string;
  readonly cookies: Readonly<Record<string, string>>;
  /** The API token of PVE that they show in place of a session: `alice@pve!mine=...`. */
  readonly token?: string;
  /** Whether they administer users. Set by the directory alone, which has asked who they are. */
  readonly admin?: boolean;
}

/** The server itself, which asks on nobody's behalf. */
export const server: Requester = { cookies: {} };

/** One change of a user or a group; in `setUser` and `setGroup`, `null` takes a key away, and keys that are not there stay. */
export type BackendChange =
  | {
      readonly method: 'addUser' | 'setUser';
      readonly user: UserName;
      readonly attributes: Readonly<Record<string, unknown>>;
    }
  | { readonly method: 'delUser'; readonly user: UserName }
  | {
      readonly method: 'addGroup' | 'setGroup';
      readonly group: GroupName;
      readonly attributes: Readonly<Record<string, unknown>>;
    }
  | { readonly method: 'delGroup'; readonly group: GroupName }
  | { readonly method: 'addUserToGroup' | 'delUserFromGroup'; readonly user: UserName; readonly group: GroupName };

/**
 * One source of users. A method that a backend does not have is simply absent: a read is then "nothing",
 * a write is refused with a clear message. Methods may be asynchronous. Errors thrown are logged and answered as 502.
 */
export interface Backend {
  /** The keys this backend supplies; anything else in its data is dropped. `resources`, `cluster` and `templates` need the configuration's consent unless the backend is `localdb`. */
  readonly keys: readonly RecordKey[];
  /** Grows whenever data may have changed, also by other processes; absent when the backend cannot tell. */
  version?(): number;
  openSession?(user: UserName, password: string): Promise<BackendResult> | BackendResult;
  /** Ends the session of these cookies. Nobody has verified `username` here: whoever signs out may have no ticket that is still good. */
  closeSession?(requester: Requester): Promise<BackendResult> | BackendResult;
  /** Whether the user may act now: not one who is gone or disabled. Absent when the backend cannot tell without them. */
  admits?(user: UserName): Promise<boolean> | boolean;
  /** The groups that the user is in, groups within groups included as far as the backend counts them. Without it, `membersOf` tells. */
  groupsOf?(user: UserName): Promise<readonly GroupName[]> | readonly GroupName[];
  /** The users who are in the group, as `groupsOf` tells of each. Without it, lists are searched for the group's `dn` in `memberOf`. */
  membersOf?(group: GroupName): Promise<readonly UserName[]> | readonly UserName[];
  /** Whether the user's password is kept here, so that it can be set. Absent: wherever the user is kept. */
  keepsPassword?(user: UserName): Promise<boolean> | boolean;
  /** Why the change would be refused, or null; changes nothing. Asked of all backends before any of them is changed. */
  check?(change: BackendChange, requester: Requester): Promise<BackendResult | null> | BackendResult | null;
  getUser?(user: UserName, requester: Requester): Promise<BackendData | null> | BackendData | null;
  getAllUsers?(
    requester: Requester,
  ): Promise<Readonly<Record<string, BackendData>> | null> | Readonly<Record<string, BackendData>> | null;
  addUser?(
    user: UserName,
    attributes: Readonly<Record<string, unknown>>,
    requester: Requester,
  ): Promise<BackendResult> | BackendResult;
  setUser?(
    user: UserName,
    attributes: Readonly<Record<string, unknown>>,
    requester: Requester,
  ): Promise<BackendResult> | BackendResult;
  delUser?(user: UserName, requester: Requester): Promise<BackendResult> | BackendResult;
  getGroup?(group: GroupName, requester: Requester): Promise<BackendData | null> | BackendData | null;
  getAllGroups?(
    requester: Requester,
  ): Promise<Readonly<Record<string, BackendData>> | null> | Readonly<Record<string, BackendData>> | null;
  addGroup?(
    group: GroupName,
    attributes: Readonly<Record<string, unknown>>,
    requester: Requester,
  ): Promise<BackendResult> | BackendResult;
  setGroup?(
    group: GroupName,
    attributes: Readonly<Record<string, unknown>>,
    requester: Requester,
  ): Promise<BackendResult> | BackendResult;
  delGroup?(group: GroupName, requester: Requester): Promise<BackendResult> | BackendResult;
  addUserToGroup?(user: UserName, group: GroupName, requester: Requester): Promise<BackendResult> | BackendResult;
  delUserFromGroup?(user: UserName, group: GroupName, requester: Requester): Promise<BackendResult> | BackendResult;
  close?(): Promise<void> | void;
}

/** Splits `id@realm` at the last `@`; null when either part is missing or a character is not allowed in PVE. */
export function parseUserName(text: string): UserName | null {
  const at = text.lastIndexOf('@');
  const id = text.slice(0, at);
  const realm = text.slice(at + 1);
  if (at < 1 || text.length > 64 || !/^[A-Za-z][A-Za-z0-9.\-_]+$/.test(realm) || /[\s:/\p{Cc}]/u.test(id)) return null;
  return { id, realm };
}

export function formatUserName({ id, realm }: UserName): UserId {
  return `${id}@${realm}`;
}

/** Splits `id@realm`; without a realm, or with the realm `pve`, it is a group of PVE itself. */
export function parseGroupName(text: string): GroupName {
  const at = text.lastIndexOf('@');
  const [id, realm] = at < 1 ? [text, 'pve'] : [text.slice(0, at), text.slice(at + 1)];
  return realm === 'pve' ? { id } : { id, realm };
}

/** Whether there can be a group of this name: directories take blanks within one. */
export function isGroupName(text: string): boolean {
  const { id, realm = 'pve' } = parseGroupName(text);
  return text.isWellFormed() && /^(?! )[^/\p{Cc}]{1,256}(?<! )$/u.test(id) && /^[A-Za-z][\w.-]+$/.test(realm);
}

export function formatGroupName({ id, realm }: GroupName): string {
  return realm === undefined ? id : `${id}@${realm}`;
}
