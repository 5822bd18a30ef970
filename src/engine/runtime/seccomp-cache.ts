/**
 * Compiled seccomp filters. Turning docker's profile into a filter takes the runtime longer than all else in a
 * container's start, and the result is the same for the same profile: so the first one that crun makes is kept, and
 * given to it ready-made afterwards (annotation
 * `run.oci.seccomp_bpf_data`). Kept below the run directory: a reboot, and with it perhaps another kernel, starts over.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { fieldOf, isObject, type JsonObject } from '#base/unknown.ts';
import { writeFileAtomic } from '#os/files.ts';
import { seccompFilterBytesMax, seccompFiltersMax } from '../limits.ts';

export class SeccompCache {
  readonly #directory: string;
  readonly #stateRoot: string;
  readonly #filters = new Map<string, string>();
  readonly #keys = new WeakMap<object, string>();

  constructor(runDirectory: string, stateRoot: string) {
    this.#directory = `${runDirectory}/seccomp`;
    this.#stateRoot = stateRoot;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
  }

  /** Replaces the profile by its filter where there is one; else says under which key to learn it. */
  apply(configuration: JsonObject): string | undefined {
    const { linux, annotations } = configuration;
    const profile = fieldOf(linux, 'seccomp');
    if (!isObject(linux) || !isObject(profile)) return undefined;
    const key = this.#keyOf(profile);
    const filter = this.#filters.get(key) ?? this.#read(key);
    if (filter === undefined) return key;
    configuration.annotations = {
      ...(isObject(annotations) ? annotations : {}),
      'run.oci.seccomp_bpf_data': filter,
    };
    linux.seccomp = { defaultAction: 'SCMP_ACT_ERRNO' };
    return undefined;
  }

  /** Keeps what the runtime has made for a container. */
  learn(key: string, id: string): void {
    if (this.#filters.size >= seccompFiltersMax) return;
    try {
      const bytes = readFileSync(`${this.#stateRoot}/${id}/seccomp.bpf`);
      // struct sock_filter is eight bytes; anything else is not a filter.
      if (bytes.length === 0 || bytes.length % 8 !== 0 || bytes.length > seccompFilterBytesMax) return;
      this.#filters.set(key, bytes.toString('base64'));
      writeFileAtomic(`${this.#directory}/${key}`, bytes);
    } catch {
      /* the next container tries again */
    }
  }

  #keyOf(profile: object): string {
    const known = this.#keys.get(profile) ?? createHash('sha256').update(JSON.stringify(profile)).digest('hex');
    this.#keys.set(profile, known);
    return known;
  }

  #read(key: string): string | undefined {
    try {
      const text = readFileSync(`${this.#directory}/${key}`).toString('base64');
      this.#filters.set(key, text);
      return text;
    } catch {
      return undefined;
    }
  }
}
