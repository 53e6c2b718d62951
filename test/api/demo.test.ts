import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

test('the tour through the demo sees what it expects, also while the server has only just begun', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/demo.ts', '--check', '--guests', '2000'], {
    encoding: 'utf8',
  });
  expect(stdout).not.toContain('FAIL');
  expect([status, stdout.split('\n').filter((line) => line.startsWith('ok')).length], stderr).toEqual([0, 12]);
});
