/** The ledger's tables, as one migration. */
export const ledgerTables = `
  CREATE TABLE instance (
    vmid INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    node TEXT NOT NULL,
    pool TEXT,
    birth TEXT,
    present INTEGER NOT NULL,   -- 0: awaited, or gone with volumes left
    seen INTEGER NOT NULL       -- 0: its usage was never read
  ) STRICT;

  CREATE TABLE seen_line (
    vmid INTEGER NOT NULL REFERENCES instance ON DELETE CASCADE,
    resource TEXT NOT NULL,
    item TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (vmid, resource, item)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE seen_unknown (
    vmid INTEGER NOT NULL REFERENCES instance ON DELETE CASCADE,
    resource TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (vmid, resource, reason)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE owner (
    vmid INTEGER NOT NULL,
    user TEXT NOT NULL,
    birth TEXT,                 -- the guest it was recorded for; NULL: not told apart
    how TEXT NOT NULL CHECK (how IN ('created', 'assigned')),
    since INTEGER NOT NULL,
    PRIMARY KEY (vmid, user)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE reservation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    made_at INTEGER NOT NULL,
    user TEXT NOT NULL,
    call TEXT NOT NULL,
    digest TEXT,
    upid TEXT
  ) STRICT;

  CREATE TABLE reservation_instance (
    reservation INTEGER NOT NULL REFERENCES reservation ON DELETE CASCADE,
    vmid INTEGER NOT NULL,
    type TEXT NOT NULL,
    node TEXT NOT NULL,
    pool TEXT,
    creates INTEGER NOT NULL,
    PRIMARY KEY (reservation, vmid)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE reservation_line (
    reservation INTEGER NOT NULL REFERENCES reservation ON DELETE CASCADE,
    vmid INTEGER NOT NULL,
    resource TEXT NOT NULL,
    item TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (reservation, vmid, resource, item)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE decision (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    user TEXT NOT NULL,
    address TEXT NOT NULL,
    call TEXT NOT NULL,
    vmid INTEGER,
    verdict TEXT NOT NULL,      -- 'allowed', or the code of the refusal
    detail TEXT NOT NULL,       -- charges, or what was refused and why, as JSON
    reservation INTEGER,
    upid TEXT,
    outcome TEXT
  ) STRICT;
  CREATE INDEX decision_at ON decision (at);
  CREATE INDEX decision_reservation ON decision (reservation);

  CREATE TABLE task (
    upid TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    vmid INTEGER,
    at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX task_at ON task (at);
`;
