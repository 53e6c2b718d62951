/** The tables of files that belong to no guest, as one migration. */
export const shelfTables = `
  CREATE TABLE shelf (
    id INTEGER PRIMARY KEY CHECK (id < 0),
    user TEXT NOT NULL,
    node TEXT NOT NULL,
    UNIQUE (user, node)
  ) STRICT;

  CREATE TABLE file (
    place TEXT NOT NULL,        -- a shared storage, or node/storage
    volid TEXT NOT NULL,
    shelf INTEGER NOT NULL REFERENCES shelf,
    bytes INTEGER NOT NULL,     -- what the reservation below awaits
    reservation INTEGER NOT NULL,
    fresh INTEGER NOT NULL,     -- 1: that reservation made the record
    since INTEGER NOT NULL,
    PRIMARY KEY (place, volid)
  ) STRICT, WITHOUT ROWID;
`;
