/** A pure function with what it found kept, until that is `most` results; what it does not find is looked for each time. */
export function remembering<T>(most: number, find: (key: string) => T): (key: string) => T {
  const kept = new Map<string, T>();
  return (key) => {
    const known = kept.get(key);
    if (known !== undefined) return known;
    const found = find(key);
    if (found === undefined) return found;
    if (kept.size >= most) kept.clear();
    kept.set(key, found);
    return found;
  };
}
