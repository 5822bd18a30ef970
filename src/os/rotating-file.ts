/**
 * A log file that is renamed when it is full, as `logrotate` and Kubernetes' audit log do: `audit.log` becomes
 * `audit-2026-01-31T23-59-59.000.log`, and old ones are removed by number and age. Lines are written at once. A line
 * that did not come to its end, because the disk was full or the process was killed, never runs into the next one.
 */
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';

export interface RotatingFileOptions {
  path: string;
  /** Before a line would make it longer it is renamed. */
  bytesMax: number;
  /** Renamed files that are kept; 0 for all. */
  backupsMax: number;
  /** How old they get; 0 for any age. */
  ageMsMax: number;
  now(): number;
}

const stamp = (ms: number): string => new Date(ms).toISOString().slice(0, -1).replaceAll(':', '-');

export class RotatingFile {
  readonly #options: RotatingFileOptions;
  readonly #base: string;
  readonly #extension: string;
  #fd: number | undefined;
  #bytes = 0;
  /** The last line has no end. */
  #isTorn = false;

  constructor(options: RotatingFileOptions) {
    this.#options = options;
    this.#extension = extname(options.path);
    this.#base = basename(options.path, this.#extension);
    mkdirSync(dirname(options.path), { recursive: true });
    this.#open();
  }

  /** Lines with their ends. Throws what the system says where they could not be written whole. */
  write(lines: string): void {
    const bytes = Buffer.from(this.#isTorn ? `\n${lines}` : lines);
    if (this.#bytes > 0 && this.#bytes + bytes.length > this.#options.bytesMax) this.#rotate();
    const fd = this.#fd ?? this.#open();
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(fd, bytes, at);
      this.#isTorn = false;
    } catch (error) {
      if (at > 0) this.#isTorn = true;
      throw error;
    } finally {
      this.#bytes += at;
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #open(): number {
    const fd = openSync(this.#options.path, 'a+', 0o600);
    this.#fd = fd;
    this.#bytes = fstatSync(fd).size;
    const last = Buffer.alloc(1);
    this.#isTorn = this.#bytes > 0 && readSync(fd, last, 0, 1, this.#bytes - 1) === 1 && last[0] !== 10;
    return fd;
  }

  #rotate(): void {
    this.close();
    const directory = dirname(this.#options.path);
    const nowMs = this.#options.now();
    const taken = new Set(readdirSync(directory));
    // Two in one millisecond must not replace each other.
    let ms = nowMs;
    while (taken.has(this.#nameAt(ms))) ms++;
    renameSync(this.#options.path, join(directory, this.#nameAt(ms)));
    this.#prune(directory, nowMs);
    this.#open();
  }

  #nameAt(ms: number): string {
    return `${this.#base}-${stamp(ms)}${this.#extension}`;
  }

  #prune(directory: string, nowMs: number): void {
    const { backupsMax, ageMsMax } = this.#options;
    const backups = readdirSync(directory)
      .flatMap((name) => {
        if (!name.startsWith(`${this.#base}-`) || !name.endsWith(this.#extension)) return [];
        const text = name.slice(this.#base.length + 1, name.length - this.#extension.length);
        const [, day, hours, minutes, seconds] = /^(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d\.\d{3})$/.exec(text) ?? [];
        return day === undefined ? [] : [{ name, ms: Date.parse(`${day}T${hours}:${minutes}:${seconds}Z`) }];
      })
      .sort((a, b) => b.ms - a.ms);
    backups.forEach(({ name, ms }, i) => {
      const isBeyond = backupsMax > 0 && i >= backupsMax;
      if (isBeyond || (ageMsMax > 0 && nowMs - ms > ageMsMax)) unlinkSync(join(directory, name));
    });
  }
}
