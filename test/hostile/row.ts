/**
 * One row for each place where input that a stranger sends is parsed, inflated, expanded, matched by a user's pattern
 * or kept waiting. A row sends such input to the code itself and says what must come back; it fails when the bound is
 * taken out. Rows assert the bound (bytes, nodes, steps, entries) and never a time: times and memory are measured in
 * `bench/hostile`.
 *
 * Rows lie in `AREA.rows.ts` beside this file, each exporting `rows`.
 */
export interface HostileRow {
  /** The place, as a sentence: `A YAML document expands its aliases`. */
  name: string;
  /** What is sent, in words, with its size. */
  input: string;
  /** Where the bound is written: `src/base/limits.ts#yamlNodesMax`. The name must be exported there. */
  bound: string;
  /** Sends the input and returns the answer: the error's message, or what was counted. It must end by itself. */
  run(): string | Promise<string>;
  /** What the answer must be. */
  answer: RegExp;
}
