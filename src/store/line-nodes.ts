/** The ledger's lines by the node where they are held, as one migration; '' stands for the instance's own. */
export const lineNodes = `
  CREATE TABLE seen_line_by_node (
    vmid INTEGER NOT NULL REFERENCES instance ON DELETE CASCADE,
    node TEXT NOT NULL,
    resource TEXT NOT NULL,
    item TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (vmid, node, resource, item)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO seen_line_by_node SELECT vmid, '', resource, item, amount FROM seen_line;
  DROP TABLE seen_line;
  ALTER TABLE seen_line_by_node RENAME TO seen_line;

  CREATE TABLE reservation_line_by_node (
    reservation INTEGER NOT NULL REFERENCES reservation ON DELETE CASCADE,
    vmid INTEGER NOT NULL,
    node TEXT NOT NULL,
    resource TEXT NOT NULL,
    item TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (reservation, vmid, node, resource, item)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO reservation_line_by_node SELECT reservation, vmid, '', resource, item, amount FROM reservation_line;
  DROP TABLE reservation_line;
  ALTER TABLE reservation_line_by_node RENAME TO reservation_line;
`;
