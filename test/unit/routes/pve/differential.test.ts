import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compared, requests } from '../../../support/differential.ts';
import { scale } from '../../../support/scale.ts';

test('whatever a request looks like, PVE reads the same call in it as we do, or we refuse it', () => {
  const outcomes = { refused: 0, same: 0 };
  fc.assert(
    fc.property(requests, (sent) => {
      const outcome = compared(sent);
      if (typeof outcome !== 'string') expect(outcome.ours).toEqual(outcome.pve);
      else outcomes[outcome] += 1;
      return typeof outcome === 'string';
    }),
    { numRuns: scale(5000, 50_000) },
  );
  // Neither side of the promise may be empty.
  expect(Math.min(outcomes.same, outcomes.refused)).toBeGreaterThan(500);
});

const form = { 'content-type': 'application/x-www-form-urlencoded' };

test.each([
  ['PUT', '/api2/json/nodes/n1/qemu/100/config?cores=64', form, 'memory=512'],
  ['PUT', '/api2/extjs/nodes/n1/qemu/100/config', form, 'scsi0=ceph%3A10%2Csize%3D5&vms=1&vms=2'],
  ['PUT', '/api2/json/nodes/n1/qemu/100/config', { 'content-type': 'application/json' }, '{"cores":4,"onboot":true}'],
  ['GET', '/api2/json/nodes/n1/storage/s/content/s%3Aiso/d.iso?_dc=1', {}, ''],
  ['DELETE', '/api2/json/cluster/firewall/ipset/x/10.0.0.0%2F8', {}, ''],
  ['GET', '/api2//json//nodes/', {}, ''],
])('%s %s is read alike by both', (method, url, headers, body) => {
  expect(compared({ method, url, headers, body: Buffer.from(body) })).toBe('same');
});
