/** What was thrown may be anything: how its words and its system code are read. */

/** The message of an error, or what else was thrown as text. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Where an error came from, for those who mend it: its stack, or what there is of it. */
export function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}

/** The code of a system call or library that failed (`ENOENT`, `ERR_…`, `Z_…`); undefined for what carries none. */
export function codeOf(thrown: unknown): string | undefined {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  return typeof code === 'string' ? code : undefined;
}
