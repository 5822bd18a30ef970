/**
 * Cases that outside users met, each kept as a test. `AREA.cases.ts` beside this file exports `cases`; `found.test.ts`
 * checks that each names a test that exists, and `npm run found` runs exactly those tests, as one table.
 */
export type FoundCase =
  | {
      id: string;
      behaviour: string;
      /** Path of the test's file. */ file: string;
      /** The test's own title, or the title of the `describe` that holds it. */ title: string;
    }
  | { id: string; behaviour: string; /** What it waits for, in words. */ waits: string };
