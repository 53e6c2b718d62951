/** A line as JSON; only one that is held elsewhere names a node. */
const lineOf = `json_patch(
  json_object('resource', resource, 'item', item, 'amount', amount),
  json_object('node', nullif(line.node, ''))
)`;

/** What an instance uses, and what a reservation is about, each as JSON in one row, as one migration: a decision waits for every row. */
export const usageTexts = `
  CREATE TABLE instance_with_usage (
    vmid INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    node TEXT NOT NULL,
    pool TEXT,
    birth TEXT,
    present INTEGER NOT NULL,   -- 0: awaited, or gone with volumes left
    seen TEXT                   -- NULL: its usage was never read
  ) STRICT;
  INSERT INTO instance_with_usage SELECT vmid, type, node, pool, birth, present, CASE seen WHEN 1 THEN json_object(
    'lines', json((SELECT json_group_array(${lineOf}) FROM seen_line line WHERE line.vmid = instance.vmid)),
    'unknown', json((SELECT json_group_array(json_object('resource', resource, 'reason', reason))
      FROM seen_unknown one WHERE one.vmid = instance.vmid))
  ) END FROM instance;
  DROP TABLE seen_line;
  DROP TABLE seen_unknown;
  DROP TABLE instance;
  ALTER TABLE instance_with_usage RENAME TO instance;

  ALTER TABLE reservation ADD COLUMN aims TEXT NOT NULL DEFAULT '[]';
  ALTER TABLE reservation ADD COLUMN copies TEXT NOT NULL DEFAULT '[]';
  ALTER TABLE reservation ADD COLUMN sources TEXT NOT NULL DEFAULT '[]';
  UPDATE reservation SET
    aims = (SELECT json_group_array(json_patch(
      json_object(
        'vmid', vmid, 'type', type, 'node', node, 'creates', json(iif(creates, 'true', 'false')),
        'lines', json((SELECT json_group_array(${lineOf}) FROM reservation_line line
          WHERE line.reservation = aim.reservation AND line.vmid = aim.vmid))
      ),
      json_object('pool', pool)
    )) FROM reservation_instance aim WHERE aim.reservation = reservation.id),
    copies = (SELECT json_group_array(json_object('place', place, 'volid', volid))
      FROM reservation_file one WHERE one.reservation = reservation.id),
    sources = (SELECT json_group_array(vmid) FROM reservation_source one WHERE one.reservation = reservation.id);
  DROP TABLE reservation_line;
  DROP TABLE reservation_instance;
  DROP TABLE reservation_file;
  DROP TABLE reservation_source;
`;
