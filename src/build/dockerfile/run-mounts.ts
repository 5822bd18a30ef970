/**
 * `RUN --mount=type=…,key=value,…`: what is mounted while the command runs.
 * Source: the Dockerfile reference, "RUN --mount"; errors in the words of BuildKit's parser.
 */
import { posix } from 'node:path';
import { parseSize } from '#base/sizes.ts';
import type { CacheSharing, Edge, ExecMount } from '../llb/vertex.ts';
import { parseError } from './lexer.ts';
import { nearest } from './nearest.ts';

type Kind = ExecMount['kind'];

export interface RunMount {
  kind: Kind;
  /** Stage, image or context whose files are mounted; undefined: the build context, or nothing. */
  from: string | undefined;
  source: string;
  target: string;
  isReadOnly: boolean;
  sizeBytes: number;
  id: string;
  sharing: CacheSharing;
  owner: { uid: number; gid: number };
  mode: number;
  isOptional: boolean;
  /** A secret as a variable; with a target as a file, too. */
  env: string | undefined;
}

const kinds: readonly Kind[] = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'];
const sharings: readonly CacheSharing[] = ['shared', 'private', 'locked'];

/** Fields of a line of comma-separated values, quotes taken off. */
function splitFields(text: string): string[] {
  return (text.match(/(?:"(?:[^"]|"")*"|[^,"])+/g) ?? []).map((field) =>
    field.replace(/"((?:[^"]|"")*)"/g, (_all, inner: string) => inner.replaceAll('""', '"')),
  );
}

class MountParser {
  readonly #line: number;
  readonly #values = new Map<string, string>();

  constructor(text: string, line: number, expand: (word: string) => string) {
    this.#line = line;
    for (const field of splitFields(text)) {
      const equals = field.indexOf('=');
      const key = (equals < 0 ? field : field.slice(0, equals)).toLowerCase();
      const value = equals < 0 ? undefined : field.slice(equals + 1);
      const name = aliases.get(key) ?? key;
      if (!known.has(name)) {
        const near = nearest(key, [...known]);
        const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
        throw this.error(`unexpected key '${key.slice(0, 100)}' in '${field.slice(0, 200)}'${hint}`);
      }
      if (value === undefined && !flags.has(name))
        throw this.error(`invalid field '${field.slice(0, 200)}' must be a key=value pair`);
      if (name === 'from' && value?.includes('$') === true)
        throw this.error("'from' doesn't support variable expansion, define alias stage instead");
      this.#values.set(name, expand(value ?? 'true'));
    }
  }

  error(message: string): Error {
    return parseError(this.#line, message);
  }

  text(name: string): string | undefined {
    return this.#values.get(name);
  }

  flag(name: string): boolean | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (/^(?:1|t|true)$/i.test(value)) return true;
    if (/^(?:0|f|false)$/i.test(value)) return false;
    throw this.error(`invalid value for ${name}: ${value.slice(0, 100)}`);
  }

  /** An integer in this base. */
  number(name: string, base: number, otherwise: number): number {
    const value = this.#values.get(name);
    if (value === undefined) return otherwise;
    if (!(base === 8 ? /^[0-7]{1,5}$/ : /^\d{1,10}$/).test(value))
      throw this.error(`invalid value ${value.slice(0, 100)} for ${name}`);
    return Number.parseInt(value, base);
  }

  oneOf<T extends string>(name: string, values: readonly T[], otherwise: T, unknown: (value: string) => string): T {
    const value = this.#values.get(name);
    if (value === undefined) return otherwise;
    const found = values.find((each) => each === value.toLowerCase());
    if (found === undefined) throw this.error(unknown(value.slice(0, 100)));
    return found;
  }

  refuse(name: string, kind: Kind): void {
    if (this.#values.has(name)) throw this.error(`unexpected key '${name}' for mount type '${kind}'`);
  }
}

const known = new Set(
  'type from source target readonly readwrite id sharing required size mode uid gid env'.split(' '),
);
const flags = new Set(['readonly', 'readwrite', 'required']);
const aliases = new Map([
  ['src', 'source'],
  ['dst', 'target'],
  ['destination', 'target'],
  ['ro', 'readonly'],
  ['rw', 'readwrite'],
]);

function checkKeys(parser: MountParser, kind: Kind): void {
  const isFiles = kind === 'bind' || kind === 'cache';
  const isSecret = kind === 'secret' || kind === 'ssh';
  if (!isFiles) for (const name of ['from', 'readwrite']) parser.refuse(name, kind);
  if (kind === 'tmpfs' || kind === 'ssh') parser.refuse('source', kind);
  if (kind !== 'cache') parser.refuse('sharing', kind);
  if (kind !== 'tmpfs') parser.refuse('size', kind);
  if (kind !== 'secret') parser.refuse('env', kind);
  if (!isSecret) parser.refuse('required', kind);
  if (kind === 'bind' || kind === 'tmpfs') for (const name of ['mode', 'uid', 'gid', 'id']) parser.refuse(name, kind);
}

/** 0: as the files that it begins with say, else 0755. */
function defaultMode(kind: Kind): number {
  return kind === 'secret' ? 0o400 : kind === 'ssh' ? 0o600 : 0;
}

function sizeOf(parser: MountParser): number {
  const text = parser.text('size');
  if (text === undefined) return 0;
  const bytes = parseSize(text);
  if (bytes === undefined) throw parser.error(`invalid value for size: ${text.slice(0, 100)}`);
  return bytes;
}

/** `expand` fills in variables. Throws BadRequest for what BuildKit refuses. */
export function parseRunMount(text: string, line: number, expand: (word: string) => string): RunMount {
  const parser = new MountParser(text, line, expand);
  const kind = parser.oneOf('type', kinds, 'bind', (value) => {
    const near = nearest(value, kinds);
    return `unsupported mount type "${value}"${near === undefined ? '' : ` (did you mean ${near}?)`}`;
  });
  checkKeys(parser, kind);
  const target = parser.text('target');
  const source = parser.text('source') ?? '';
  const id = parser.text('id');
  const env = parser.text('env');
  const isFiles = kind === 'bind' || kind === 'cache' || kind === 'tmpfs';
  if (isFiles && (target === undefined || target === '')) throw parser.error('invalid mount: target is required');
  if (kind === 'secret' && target === undefined && id === undefined && source === '')
    throw parser.error('invalid secret mount. one of source, target required');
  const isWritable = parser.flag('readwrite');
  return {
    kind,
    from: parser.text('from'),
    source: kind === 'secret' ? '' : source,
    target: target ?? '',
    isReadOnly: parser.flag('readonly') ?? (isWritable === undefined ? kind === 'bind' : !isWritable),
    sizeBytes: sizeOf(parser),
    id: id ?? (kind === 'secret' ? source || posix.basename(target ?? '') : kind === 'ssh' ? 'default' : ''),
    sharing: parser.oneOf('sharing', sharings, 'shared', (value) => `unsupported sharing value "${value}"`),
    owner: { uid: parser.number('uid', 10, 0), gid: parser.number('gid', 10, 0) },
    mode: parser.number('mode', 8, defaultMode(kind)),
    isOptional: parser.flag('required') !== true,
    env,
  };
}

/** Where a mount goes: below the working directory when it is relative, a usual place when it says nothing. */
function targetOf(mount: RunMount, workingDir: string, agents: number): string {
  if (mount.kind === 'secret' && mount.target === '') return `/run/secrets/${posix.basename(mount.id)}`;
  if (mount.kind === 'ssh' && mount.target === '') return `/run/buildkit/ssh_agent.${agents}`;
  return posix.resolve('/', workingDir, mount.target);
}

export interface MountPlace {
  workingDir: string;
  /** Caches of builds with different names are apart. */
  cacheNamespace: string;
  /** Index, among the inputs of the vertex, of an edge. */
  inputOf: (edge: Edge) => number;
  /** Files of a stage, image or context; the build context without a name. */
  resolveFrom: (name: string | undefined) => Promise<Edge | undefined>;
}

/** The mounts of a command beside its root, and secrets that it sees as variables. */
export async function execMounts(
  mounts: readonly RunMount[],
  { workingDir, cacheNamespace, inputOf, resolveFrom }: MountPlace,
): Promise<{ mounts: ExecMount[]; secretEnv: { id: string; name: string; isOptional: boolean }[] }> {
  const out: ExecMount[] = [];
  const secretEnv: { id: string; name: string; isOptional: boolean }[] = [];
  let agents = 0;
  for (const mount of mounts) {
    const { kind, id, isOptional, env } = mount;
    if (env !== undefined) secretEnv.push({ id, name: env, isOptional });
    if (env !== undefined && mount.target === '') continue;
    const target = targetOf(mount, workingDir, agents);
    if (kind === 'ssh') agents++;
    const hasFiles = kind === 'bind' || (kind === 'cache' && mount.from !== undefined);
    const edge = hasFiles ? await resolveFrom(mount.from) : undefined;
    out.push({
      kind,
      ...(edge === undefined ? {} : { input: inputOf(edge) }),
      selector: mount.source,
      target,
      isReadOnly: mount.isReadOnly,
      sizeBytes: mount.sizeBytes,
      id: kind === 'cache' ? `${cacheNamespace}/${id === '' ? target : id}` : id,
      sharing: mount.sharing,
      owner: mount.owner,
      mode: mount.mode,
      isOptional,
    });
  }
  return { mounts: out, secretEnv };
}
