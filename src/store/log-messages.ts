/**
 * What a log store and its writer say to each other. Values cross as bytes; their buffers are moved, not copied, at
 * load.
 */
export interface WrittenRow {
  key: string;
  /** Absent: deleted. */ value: Uint8Array | undefined;
  createRevision: number;
  lease: number;
}
export interface WrittenTransaction {
  revision: number;
  rows: WrittenRow[];
}

export type ToWriter =
  | { type: 'commit'; transactions: WrittenTransaction[] }
  | { type: 'compact'; revision: number; dropped: { key: string; modRevision: number }[] }
  | { type: 'lease'; id: number; ttlMs: number; expiresAt: number }
  | { type: 'unlease'; id: number }
  /** Fills a file that holds nothing with the state of a revision; each row is of its own. */
  | { type: 'restore'; revision: number; rows: LoadedRow[] }
  /** Writes something that changes nothing, to see whether a write succeeds. */
  | { type: 'probe' }
  /** Gives so many free pages back to the file system. */
  | { type: 'vacuum'; pages: number }
  | { type: 'close' };

export interface LoadedRow {
  revision: number;
  key: string;
  value: Uint8Array | null;
  createRevision: number;
  lease: number;
}

export type FromWriter =
  | { type: 'rows'; rows: LoadedRow[] }
  | { type: 'ready'; compacted: number; revision: number; leases: { id: number; ttlMs: number; expiresAt: number }[] }
  | { type: 'synced' }
  /** Free pages that are left to give back; 0: as many as are worth keeping. */
  | { type: 'vacuumed'; left: number }
  | { type: 'failed'; message: string }
  | { type: 'closed' };

export interface WriterOptions {
  path: string;
  /** `FULL` always; tests take it out to see that they notice. */ synchronous: 'FULL' | 'OFF';
}
/** Rows of one transaction have ids `revision * rowsPerRevision + n`; at least the operations of a transaction. */
export const rowsPerRevision = 128;
