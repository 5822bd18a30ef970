/** For tests that draw chance: one seed for a test file, printed, and given again with TIPHYS_SEED. */
import { randomInt } from 'node:crypto';
import { relative } from 'node:path';

const seedMax = 2 ** 31 - 1;

/** Says on standard output with which seed the test runs, so that a failure can be run again. */
export function testSeed(): number {
  const given = process.env['TIPHYS_SEED'];
  const seed = given === undefined ? randomInt(seedMax) : Number(given);
  if (!Number.isSafeInteger(seed)) throw new Error(`TIPHYS_SEED is not a whole number: ${given}`);
  const file = relative(process.cwd(), process.argv[1] ?? '');
  console.log(`seed ${seed}; again: TIPHYS_SEED=${seed} ./tiphys test ${file}`);
  return seed;
}
