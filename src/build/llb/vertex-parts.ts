/** Parts that vertices are made of again and again. */
import { makeVertex } from './codec.ts';
import type { Edge, ExecMount, ExecOp, FileAction, Vertex } from './vertex.ts';

/** The root of a command, whose changes are its output. Its input is yet to be named. */
export const rootMount: ExecMount = {
  kind: 'bind',
  selector: '',
  target: '/',
  output: 0,
  isReadOnly: false,
  sizeBytes: 0,
  id: '',
  sharing: 'shared',
  owner: { uid: 0, gid: 0 },
  mode: 0,
  isOptional: false,
};

/** A command of root's in the sandbox, with nothing beside it. What it runs, and where, is yet to be named. */
export const plainExec: Omit<ExecOp, 'args' | 'mounts'> = {
  kind: 'exec',
  env: [],
  cwd: '/',
  user: '',
  proxyEnv: {},
  extraHosts: [],
  hostname: '',
  ulimits: [],
  cgroupParent: '',
  validExitCodes: [],
  network: 'sandbox',
  isInsecure: false,
  secretEnv: [],
  devices: [],
};

/** A copy as COPY makes it: contents of directories, links followed, what is missing above it made. */
export const plainCopy: Omit<FileAction & { kind: 'copy' }, 'source' | 'target'> = {
  kind: 'copy',
  modeText: '',
  followsLinks: true,
  copiesContents: true,
  unpacks: false,
  createsParents: true,
  allowsWildcard: false,
  allowsNone: false,
  replaces: false,
  include: [],
  exclude: [],
  required: [],
};

/** The files of an archive that lies at this path. */
export function unpackVertex(archive: Edge, path: string): Vertex {
  const action: FileAction = { ...plainCopy, from: 0, source: `/${path}`, target: '/', unpacks: true, output: 0 };
  return makeVertex({ kind: 'file', actions: [action] }, [archive], { name: `unpack ${archive.vertex.name}` });
}
