/**
 * Where a container's log goes besides its file: a log driver of docker's that sends. A *sink* is one container's way
 * to one receiver. It is written to by one forwarder (forwarder.ts), one record at a time, which the file has and
 * keeps: so a sink holds nothing back, and a receiver that is slow or away costs no memory and never holds up the
 * container.
 */
export interface LogRecord {
  stream: 'stdout' | 'stderr';
  /** UTC with nine digits of a second. */
  timestamp: string;
  /** Without its newline; at most `logMessageBytesMax`. */
  data: Buffer;
  /** Of a line that is longer: a name for it, which piece this is (from 1), and whether it is the last. */
  partial?: { id: string; ordinal: number; isLast: boolean };
}

export interface LogSink {
  /**
   * Resolves when the receiver's side has taken it, as far as the protocol tells. Rejects when there is no receiver
   * now: the record is written again to another sink.
   */
  write(record: LogRecord): Promise<void>;
  close(): Promise<void>;
}

/** What a driver knows of its container. */
export interface LogInfo {
  driver: string;
  options: Readonly<Record<string, string>>;
  id: string;
  /** Without the slash. */
  name: string;
  imageId: string;
  imageName: string;
  /** Path and arguments of its process. */
  command: string[];
  createdAtMs: number;
  env: readonly string[];
  labels: Readonly<Record<string, string>>;
  hostname: string;
}
