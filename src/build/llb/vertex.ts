/**
 * A build as data: vertices with digests, in the form of BuildKit's LLB. A vertex is one operation and the outputs of
 * other vertices that it works on; its digest is that of both, in the protocol's encoding (`codec.ts`), so equal work
 * has one digest, whichever front end asked for it. `solver.ts` carries vertices out.
 *
 * Source: BuildKit, `solver/pb/ops.proto`.
 */
import type { Platform } from '#base/platform.ts';
import type { SourceLocation } from './location.ts';

/** Files from elsewhere: `docker-image://`, `local://`, `http://`, `https://`, `git://`, `oci-layout://`. */
export interface SourceOp {
  kind: 'source';
  identifier: string;
  attributes: Readonly<Record<string, string>>;
}

export type CacheSharing = 'shared' | 'private' | 'locked';

export interface ExecMount {
  kind: 'bind' | 'cache' | 'secret' | 'ssh' | 'tmpfs';
  /** Which input is mounted; undefined: an empty directory. */
  input?: number;
  /** Path in the input, or in the cache. */
  selector: string;
  target: string;
  /** Which output of the vertex the files become; undefined: changes are thrown away. */
  output?: number;
  isReadOnly: boolean;
  /** Of a tmpfs; 0: no bound of its own. */
  sizeBytes: number;
  /** Of a cache, a secret or an agent. */
  id: string;
  sharing: CacheSharing;
  owner: { uid: number; gid: number };
  mode: number;
  isOptional: boolean;
}

export interface ProxyEnv {
  http_proxy: string;
  https_proxy: string;
  ftp_proxy: string;
  no_proxy: string;
  all_proxy: string;
}

/** A command over the mount at `/`. */
export interface ExecOp {
  kind: 'exec';
  args: string[];
  env: string[];
  cwd: string;
  user: string;
  /** Seen by the command, in no key. */
  proxyEnv: Partial<ProxyEnv>;
  /** `host:address`. */
  extraHosts: string[];
  hostname: string;
  ulimits: { name: string; soft: number; hard: number }[];
  cgroupParent: string;
  /** Empty: 0 alone. */
  validExitCodes: number[];
  mounts: ExecMount[];
  network: 'sandbox' | 'host' | 'none';
  isInsecure: boolean;
  secretEnv: { id: string; name: string; isOptional: boolean }[];
  devices: string[];
}

/** By number, or by the name that the files of an input know. */
export type UserRef = { id: number } | { name: string; input?: number };
export interface OwnerRef {
  user?: UserRef;
  group?: UserRef;
}

interface ActionBase {
  /** An input of the vertex, or, counted on after those, what an earlier action made; undefined: nothing. */
  input?: number;
  output?: number;
  owner?: OwnerRef;
  /** Seconds times 10^9; undefined: as it comes. */
  timestampNs?: number;
}

export type FileAction = ActionBase &
  (
    | {
        kind: 'copy';
        /** Where it copies from, counted as `input` is. */
        from?: number;
        source: string;
        target: string;
        mode?: number;
        /** A symbolic form, `u+x`. */
        modeText: string;
        followsLinks: boolean;
        /** A directory's contents rather than itself. */
        copiesContents: boolean;
        unpacks: boolean;
        createsParents: boolean;
        allowsWildcard: boolean;
        /** A wildcard may match nothing. */
        allowsNone: boolean;
        replaces: boolean;
        include: string[];
        exclude: string[];
        required: string[];
      }
    | { kind: 'makeFile'; path: string; mode: number; data: Buffer }
    | { kind: 'makeDirectory'; path: string; mode: number; makesParents: boolean }
    | { kind: 'remove'; path: string; allowsNone: boolean; allowsWildcard: boolean }
    | { kind: 'symlink'; path: string; linkTarget: string }
  );

export interface FileOp {
  kind: 'file';
  actions: FileAction[];
}

/** The layers of all inputs, one on top of the other. */
export interface MergeOp {
  kind: 'merge';
}

/** What `upper` adds to `lower`; undefined: an empty tree. */
export interface DiffOp {
  kind: 'diff';
  lower?: number;
  upper?: number;
}

/** A definition in a file of an input, carried out in its place. */
export interface BuildOp {
  kind: 'build';
  input: number;
  path: string;
}

export type Operation = SourceOp | ExecOp | FileOp | MergeOp | DiffOp | BuildOp;

export interface Vertex {
  readonly digest: string;
  readonly op: Operation;
  readonly inputs: readonly Edge[];
  readonly platform: Platform | undefined;
  /** As progress shows it. */
  readonly name: string;
  readonly ignoresCache: boolean;
  /** Where its front end's source says it. */
  readonly location: SourceLocation | undefined;
}

/** One output of a vertex. */
export interface Edge {
  readonly vertex: Vertex;
  readonly output: number;
}

/** The vertex and all that it needs, those first, each once. Definitions are as deep as they are long: no recursion. */
export function listVertices(last: Vertex): Vertex[] {
  const found: Vertex[] = [];
  const seen = new Set<string>();
  const open: { vertex: Vertex; next: number }[] = [];
  const enter = (vertex: Vertex): void => {
    if (seen.has(vertex.digest)) return;
    seen.add(vertex.digest);
    open.push({ vertex, next: 0 });
  };
  enter(last);
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const input = top.vertex.inputs[top.next++];
    if (input !== undefined) {
      enter(input.vertex);
      continue;
    }
    found.push(top.vertex);
    open.pop();
  }
  return found;
}
