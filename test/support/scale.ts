/** How much of something a test does: little where people wait for it, all of it where `CI` is set. */
export function scale(little: number, inCI: number): number {
  return process.env.CI === 'true' ? inCI : little;
}

/** The whole numbers from 0 to below `end`. */
export function range(end: number): number[] {
  return Array.from({ length: end }, (_, index) => index);
}
