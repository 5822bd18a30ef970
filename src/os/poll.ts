/**
 * Waiting for the kernel without polling: one thread sleeps in epoll_wait(2) for process ends, attach sockets (conmon's
 * are SEQPACKET, which Node's `net` cannot speak) and terminals handed over on a unix socket. An idle node costs
 * nothing here.
 */
export interface AttachSocket {
  /**
   * Packets as conmon sends them: a stream byte (2 stdout, 3 stderr), then data. The reader is slowed by not calling
   * `done`.
   */
  onPacket: (packet: Buffer, done: () => void) => void;
  onEnd: () => void;
  /** Resolves when the kernel took it. */
  write(bytes: Uint8Array): Promise<void>;
  /** No more input: the container's stdin ends, unless its monitor leaves it open. */
  shutdown(): void;
  close(): void;
}

export interface Poll {
  /** Resolves when the process ends, at once when there is none. Not for our own children's exit codes. */
  waitExit(pid: number): Promise<void>;
  /** Connects to a SEQPACKET socket; rejects with ENOENT, ECONNREFUSED. */
  connectAttach(path: string): Promise<AttachSocket>;
  /**
   * Listens on a new unix socket until one terminal's file descriptor came (SCM_RIGHTS), as OCI runtimes send it.
   * `finish`: who was to send it has ended; what was sent by then counts, else the descriptor rejects.
   */
  receiveTerminal(path: string): Promise<{ descriptor: Promise<number>; finish(): void }>;
  close(): void;
}
