/** The path of a call: how PVE splits one, and how one is written so that PVE splits it in the same way. */

import { BadRequestError } from '../errors.ts';

/** Below these PVE takes all that follows for one value with its slashes: a volume id, a network such as `10.0.0.0/8`. */
const openEnded = [
  'nodes/{}/storage/{}/content',
  'cluster/firewall/ipset/{}',
  'nodes/{}/qemu/{}/firewall/ipset/{}',
  'nodes/{}/lxc/{}/firewall/ipset/{}',
].map((path) => path.split('/'));

/** The segments that a path (behind `/api2/json`, percent-encoded) has for PVE; one that could be read in two ways is a BadRequestError. */
export function readPath(text: string): readonly string[] {
  const parts = text.split('/').flatMap((part) => (part === '' ? [] : [decodedPart(part)]));
  const end = indexOfRest(parts);
  const rest = parts.slice(end).join('/');
  const segments = rest === '' ? parts : [...parts.slice(0, end), rest];
  for (const [index, segment] of segments.entries()) {
    if (simple.test(segment)) continue;
    if (index < end && segment.includes('/'))
      throw unclear(segment, 'an encoded slash separates for PVE; write it plainly, or leave it out');
    if (!isPlain(segment) || /\s/u.test(segment))
      throw unclear(segment, 'empty and dot segments, white space and control characters are not understood');
  }
  return segments;
}

/** The path behind `/api2/json` that PVE splits into these segments; throws a TypeError when there is none. */
export function writePath(segments: readonly string[]): string {
  const end = indexOfRest(segments);
  return segments
    .map((segment, index) => {
      if (simple.test(segment)) return `/${segment}`;
      if (!isPlain(segment) || (index !== end && segment.includes('/')))
        throw new TypeError(`${JSON.stringify(segment)} cannot be a part of a PVE path`);
      return `/${encodeURIComponent(segment)}`;
    })
    .join('');
}

/** The index of the segment that takes all the rest; beyond the end when none does. */
function indexOfRest(segments: readonly string[]): number {
  const found = openEnded.find(
    (path) => segments.length > path.length && path.every((part, index) => part === '{}' || part === segments[index]),
  );
  return found?.length ?? segments.length;
}

/** Most segments; nothing in them is read in two ways. */
const simple = /^[\w-]+$/;

/** PVE decodes the whole path before it splits it, drops empty parts and a final newline, and keeps dots, which others resolve. */
function isPlain(segment: string): boolean {
  const parts = segment.split('/');
  return (
    segment.isWellFormed() &&
    !/\p{Cc}/u.test(segment) &&
    parts.every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

function decodedPart(part: string): string {
  if (simple.test(part)) return part;
  try {
    return decodeURIComponent(part);
  } catch {
    throw unclear(part, 'its percent-encoding is broken, or is not UTF-8');
  }
}

function unclear(part: string, problem: string): BadRequestError {
  return new BadRequestError({ field: 'path', problem: `${JSON.stringify(part.slice(0, 80))}: ${problem}` });
}
