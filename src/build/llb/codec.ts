/** LLB's bytes: operations and whole definitions, to and from the protocol's messages. */
import { createHash } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import type { Platform } from '#base/platform.ts';
import { fieldOf, isObject, itemsOf } from '#base/unknown.ts';
import { bytesIn, messageIn, messagesIn, numberIn, textIn, textMapIn, textsIn } from '#grpc/fields.ts';
import { decodeMessage, encodeMessage } from '../grpc/messages.ts';
import type { Message } from '#grpc/fields.ts';
import { definitionVerticesMax } from '../limits.ts';
import { checkOperation } from './check.ts';
import { infoOfText, lineRanges, placeOfText } from './location.ts';
import type { SourceLocation, SourceText } from './location.ts';
import { listVertices } from './vertex.ts';
import type {
  CacheSharing,
  Edge,
  ExecMount,
  ExecOp,
  FileAction,
  Operation,
  OwnerRef,
  UserRef,
  Vertex,
} from './vertex.ts';

const mountKinds: readonly ExecMount['kind'][] = ['bind', 'secret', 'ssh', 'cache', 'tmpfs'];
const sharings: readonly CacheSharing[] = ['shared', 'private', 'locked'];
const networks: readonly ExecOp['network'][] = ['sandbox', 'host', 'none'];

/** Absent is -1 in the protocol. */
const orNone = (index: number | undefined): number => index ?? -1;
const index = (value: number): number | undefined => (value < 0 ? undefined : value);

function mountMessage(mount: ExecMount): Message {
  const { kind, id, owner, mode, isOptional } = mount;
  const secret = { ID: id, uid: owner.uid, gid: owner.gid, mode, optional: isOptional };
  return {
    input: orNone(mount.input),
    selector: mount.selector,
    dest: mount.target,
    output: orNone(mount.output),
    readonly: mount.isReadOnly,
    mountType: mountKinds.indexOf(kind),
    ...(kind === 'tmpfs' ? { TmpfsOpt: { size: mount.sizeBytes } } : {}),
    ...(kind === 'cache' ? { cacheOpt: { ID: id, sharing: sharings.indexOf(mount.sharing) } } : {}),
    ...(kind === 'secret' ? { secretOpt: secret } : {}),
    ...(kind === 'ssh' ? { SSHOpt: secret } : {}),
  };
}

function userMessage(user: UserRef | undefined): Message | undefined {
  if (user === undefined) return undefined;
  return 'id' in user ? { byID: user.id } : { byName: { name: user.name, input: orNone(user.input) } };
}

/** Names are bytes, the protocol's text is UTF-8: names that are none keep their own digest. */
function toWire(path: string): string {
  if (path.isWellFormed()) return path;
  return path.replace(/[\udc80-\udcff]/g, (char) => `\ufffd${char.charCodeAt(0).toString(16)}`);
}

function ownerMessage(owner: OwnerRef | undefined): Message {
  if (owner === undefined) return {};
  const [user, group] = [userMessage(owner.user), userMessage(owner.group)];
  return { owner: { ...(user === undefined ? {} : { user }), ...(group === undefined ? {} : { group }) } };
}

function actionMessage(action: FileAction): Message {
  const common = { ...ownerMessage(action.owner), timestamp: action.timestampNs ?? -1 };
  switch (action.kind) {
    case 'copy':
      return {
        copy: {
          ...common,
          src: toWire(action.source),
          dest: toWire(action.target),
          mode: orNone(action.mode),
          modeStr: action.modeText,
          followSymlink: action.followsLinks,
          dirCopyContents: action.copiesContents,
          attemptUnpackDockerCompatibility: action.unpacks,
          createDestPath: action.createsParents,
          allowWildcard: action.allowsWildcard,
          allowEmptyWildcard: action.allowsNone,
          alwaysReplaceExistingDestPaths: action.replaces,
          include_patterns: action.include,
          exclude_patterns: action.exclude,
          required_paths: action.required,
        },
      };
    case 'makeFile':
      return { mkfile: { ...common, path: action.path, mode: action.mode, data: action.data } };
    case 'makeDirectory':
      return { mkdir: { ...common, path: action.path, mode: action.mode, makeParents: action.makesParents } };
    case 'remove':
      return { rm: { path: action.path, allowNotFound: action.allowsNone, allowWildcard: action.allowsWildcard } };
    default:
      return { symlink: { ...common, oldpath: action.linkTarget, newpath: action.path } };
  }
}

function execMessage(op: ExecOp): Message {
  return {
    meta: {
      args: op.args,
      env: op.env,
      cwd: op.cwd,
      user: op.user,
      ...(Object.keys(op.proxyEnv).length === 0 ? {} : { proxy_env: op.proxyEnv }),
      extraHosts: op.extraHosts.map((each) => {
        const colon = each.indexOf(':');
        return { Host: each.slice(0, colon), IP: each.slice(colon + 1) };
      }),
      hostname: op.hostname,
      ulimit: op.ulimits.map(({ name, soft, hard }) => ({ Name: name, Soft: soft, Hard: hard })),
      cgroupParent: op.cgroupParent,
      removeMountStubsRecursive: true,
      validExitCodes: op.validExitCodes,
    },
    mounts: op.mounts.map(mountMessage),
    network: networks.indexOf(op.network),
    security: op.isInsecure ? 1 : 0,
    secretenv: op.secretEnv.map(({ id, name, isOptional }) => ({ ID: id, name, optional: isOptional })),
    cdiDevices: op.devices.map((name) => ({ name })),
  };
}

/** The one kind of nested build that there is, by BuildKit's names. */
const definitionBuilder = -1;
const definitionInput = 'buildkit.llb.definition';
const definitionPath = 'llbbuild.filename';

function operationMessage(op: Operation, inputs: readonly Edge[]): Message {
  switch (op.kind) {
    case 'source':
      return { source: { identifier: op.identifier, attrs: op.attributes } };
    case 'exec':
      return { exec: execMessage(op) };
    case 'file':
      return {
        file: {
          actions: op.actions.map((action) => ({
            input: orNone(action.input),
            secondaryInput: action.kind === 'copy' ? orNone(action.from) : -1,
            output: orNone(action.output),
            ...actionMessage(action),
          })),
        },
      };
    case 'merge':
      return { merge: { inputs: inputs.map((_, at) => ({ input: at })) } };
    case 'build':
      return {
        build: {
          builder: definitionBuilder,
          inputs: { [definitionInput]: { input: op.input } },
          attrs: op.path === definitionInput ? {} : { [definitionPath]: op.path },
        },
      };
    default:
      return { diff: { lower: { input: orNone(op.lower) }, upper: { input: orNone(op.upper) } } };
  }
}

function encodeOperation(op: Operation, inputs: readonly Edge[], platform: Platform | undefined): Uint8Array {
  return encodeMessage('pb.Op', {
    inputs: inputs.map(({ vertex, output }) => ({ digest: vertex.digest, index: output })),
    ...operationMessage(op, inputs),
    ...(platform === undefined ? {} : { platform: platformMessage(platform) }),
  });
}

export interface VertexOptions {
  /** As progress shows it. */
  name: string;
  platform?: Platform | undefined;
  ignoresCache?: boolean;
  location?: SourceLocation | undefined;
}

function digestOfBytes(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function makeVertex(op: Operation, inputs: readonly Edge[], options: VertexOptions): Vertex {
  const { name, platform, ignoresCache = false, location } = options;
  const digest = digestOfBytes(encodeOperation(op, inputs, platform));
  return { digest, op, inputs, platform, name, ignoresCache, location };
}

/** A vertex and all that it needs, those first; the last entry names the output that is meant. */
export function encodeDefinition(edge: Edge): Message {
  const def: Uint8Array[] = [];
  const metadata: Record<string, Message> = {};
  const texts: SourceText[] = [];
  const locations: Record<string, Message> = {};
  for (const vertex of listVertices(edge.vertex)) {
    def.push(encodeOperation(vertex.op, vertex.inputs, vertex.platform));
    metadata[vertex.digest] = { ignore_cache: vertex.ignoresCache, description: { 'llb.customname': vertex.name } };
    if (vertex.location === undefined) continue;
    const { text, ranges } = vertex.location;
    const place = { sourceIndex: placeOfText(texts, text), ranges: lineRanges(ranges) };
    locations[vertex.digest] = { locations: [place] };
  }
  def.push(encodeMessage('pb.Op', { inputs: [{ digest: edge.vertex.digest, index: edge.output }] }));
  return {
    def,
    metadata,
    Source: { locations, infos: texts.map(infoOfText) },
  };
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

function mountOf(message: Message): ExecMount {
  const kind = mountKinds[numberIn(message, 'mountType')] ?? refuse('unknown type of mount');
  const cache = messageIn(message, 'cacheOpt');
  const secret = messageIn(message, kind === 'ssh' ? 'SSHOpt' : 'secretOpt');
  // Clients leave the numbers of mounts that have neither at nought, which is a number.
  const hasFiles = kind === 'bind' || kind === 'cache';
  const input = hasFiles ? index(numberIn(message, 'input')) : undefined;
  const output = hasFiles ? index(numberIn(message, 'output')) : undefined;
  return {
    kind,
    ...(input === undefined ? {} : { input }),
    selector: textIn(message, 'selector'),
    target: textIn(message, 'dest'),
    ...(output === undefined ? {} : { output }),
    isReadOnly: message['readonly'] === true,
    sizeBytes: numberIn(messageIn(message, 'TmpfsOpt'), 'size'),
    id: textIn(kind === 'cache' ? cache : secret, 'ID'),
    sharing: sharings[numberIn(cache, 'sharing')] ?? 'shared',
    owner: { uid: numberIn(secret, 'uid'), gid: numberIn(secret, 'gid') },
    mode: numberIn(secret, 'mode'),
    isOptional: secret['optional'] === true,
  };
}

function execOf(message: Message): ExecOp {
  const meta = messageIn(message, 'meta');
  const isGiven = ([, value]: [string, string]): boolean => value !== '';
  return {
    kind: 'exec',
    args: textsIn(meta, 'args'),
    env: textsIn(meta, 'env'),
    cwd: textIn(meta, 'cwd'),
    user: textIn(meta, 'user'),
    proxyEnv: Object.fromEntries(Object.entries(textMapIn(meta, 'proxy_env')).filter(isGiven)),
    extraHosts: messagesIn(meta, 'extraHosts').map((host) => `${textIn(host, 'Host')}:${textIn(host, 'IP')}`),
    hostname: textIn(meta, 'hostname'),
    ulimits: messagesIn(meta, 'ulimit').map((limit) => ({
      name: textIn(limit, 'Name'),
      soft: numberIn(limit, 'Soft'),
      hard: numberIn(limit, 'Hard'),
    })),
    cgroupParent: textIn(meta, 'cgroupParent'),
    validExitCodes: itemsOf(meta['validExitCodes']).filter((code) => typeof code === 'number'),
    mounts: messagesIn(message, 'mounts').map(mountOf),
    network: networks[numberIn(message, 'network')] ?? refuse('unknown network mode'),
    isInsecure: numberIn(message, 'security') === 1,
    secretEnv: messagesIn(message, 'secretenv').map((secret) => ({
      id: textIn(secret, 'ID'),
      name: textIn(secret, 'name'),
      isOptional: secret['optional'] === true,
    })),
    devices: messagesIn(message, 'cdiDevices').map((device) => textIn(device, 'name')),
  };
}

function userOf(message: Message): UserRef | undefined {
  if (isObject(message['byName'])) {
    const name = messageIn(message, 'byName');
    return {
      name: textIn(name, 'name'),
      ...(index(numberIn(name, 'input')) === undefined ? {} : { input: numberIn(name, 'input') }),
    };
  }
  return typeof message['byID'] === 'number' ? { id: message['byID'] } : undefined;
}

function ownerOf(message: Message): { owner?: OwnerRef } {
  if (!isObject(message['owner'])) return {};
  const owner = messageIn(message, 'owner');
  const [user, group] = [userOf(messageIn(owner, 'user')), userOf(messageIn(owner, 'group'))];
  return { owner: { ...(user === undefined ? {} : { user }), ...(group === undefined ? {} : { group }) } };
}

function actionOf(message: Message): FileAction {
  const base = {
    ...(index(numberIn(message, 'input')) === undefined ? {} : { input: numberIn(message, 'input') }),
    ...(index(numberIn(message, 'output')) === undefined ? {} : { output: numberIn(message, 'output') }),
  };
  const common = (body: Message): object => ({
    ...base,
    ...ownerOf(body),
    ...(numberIn(body, 'timestamp') < 0 ? {} : { timestampNs: numberIn(body, 'timestamp') }),
  });
  if (isObject(message['copy'])) {
    const body = messageIn(message, 'copy');
    return {
      ...common(body),
      kind: 'copy',
      ...(index(numberIn(message, 'secondaryInput')) === undefined
        ? {}
        : { from: numberIn(message, 'secondaryInput') }),
      source: textIn(body, 'src'),
      target: textIn(body, 'dest'),
      ...(index(numberIn(body, 'mode')) === undefined ? {} : { mode: numberIn(body, 'mode') }),
      modeText: textIn(body, 'modeStr'),
      followsLinks: body['followSymlink'] === true,
      copiesContents: body['dirCopyContents'] === true,
      unpacks: body['attemptUnpackDockerCompatibility'] === true,
      createsParents: body['createDestPath'] === true,
      allowsWildcard: body['allowWildcard'] === true,
      allowsNone: body['allowEmptyWildcard'] === true,
      replaces: body['alwaysReplaceExistingDestPaths'] === true,
      include: textsIn(body, 'include_patterns'),
      exclude: textsIn(body, 'exclude_patterns'),
      required: textsIn(body, 'required_paths'),
    };
  }
  if (isObject(message['mkfile'])) {
    const body = messageIn(message, 'mkfile');
    return {
      ...common(body),
      kind: 'makeFile',
      path: textIn(body, 'path'),
      mode: numberIn(body, 'mode'),
      data: bytesIn(body, 'data'),
    };
  }
  if (isObject(message['mkdir'])) {
    const body = messageIn(message, 'mkdir');
    return {
      ...common(body),
      kind: 'makeDirectory',
      path: textIn(body, 'path'),
      mode: numberIn(body, 'mode'),
      makesParents: body['makeParents'] === true,
    };
  }
  if (isObject(message['rm'])) {
    const body = messageIn(message, 'rm');
    const [allowsNone, allowsWildcard] = [body['allowNotFound'] === true, body['allowWildcard'] === true];
    return { ...base, kind: 'remove', path: textIn(body, 'path'), allowsNone, allowsWildcard };
  }
  if (isObject(message['symlink'])) {
    const body = messageIn(message, 'symlink');
    return { ...common(body), kind: 'symlink', path: textIn(body, 'newpath'), linkTarget: textIn(body, 'oldpath') };
  }
  return refuse('unknown file action');
}

/** The operation, and which of the inputs it takes, in its own order. */
function operationOf(message: Message): { op: Operation; order?: number[] } {
  if (isObject(message['source'])) {
    const body = messageIn(message, 'source');
    return { op: { kind: 'source', identifier: textIn(body, 'identifier'), attributes: textMapIn(body, 'attrs') } };
  }
  if (isObject(message['exec'])) return { op: execOf(messageIn(message, 'exec')) };
  if (isObject(message['file']))
    return { op: { kind: 'file', actions: messagesIn(messageIn(message, 'file'), 'actions').map(actionOf) } };
  if (isObject(message['merge']))
    return {
      op: { kind: 'merge' },
      order: messagesIn(messageIn(message, 'merge'), 'inputs').map((input) => numberIn(input, 'input')),
    };
  if (isObject(message['diff'])) {
    const body = messageIn(message, 'diff');
    const [lower, upper] = [messageIn(body, 'lower'), messageIn(body, 'upper')];
    return {
      op: {
        kind: 'diff',
        ...(index(numberIn(lower, 'input')) === undefined ? {} : { lower: numberIn(lower, 'input') }),
        ...(index(numberIn(upper, 'input')) === undefined ? {} : { upper: numberIn(upper, 'input') }),
      },
    };
  }
  if (isObject(message['build'])) {
    const body = messageIn(message, 'build');
    if (numberIn(body, 'builder') !== definitionBuilder) return refuse('only LLB builder is currently allowed');
    const input = messageIn(body, 'inputs')[definitionInput];
    if (!isObject(input)) return refuse(`no llb definition input ${definitionInput} found`);
    const at = index(numberIn(input, 'input')) ?? refuse('an operation names an input that it has not');
    return { op: { kind: 'build', input: at, path: textMapIn(body, 'attrs')[definitionPath] ?? definitionInput } };
  }
  if (isObject(message['passthrough'])) return refuse('pass-through operations are not carried out');
  return refuse('an operation of the build definition is of an unknown kind');
}

function platformMessage({ os, architecture, variant = '', 'os.version': version = '' }: Platform): Message {
  return { OS: os, Architecture: architecture, Variant: variant, OSVersion: version };
}

function platformOf(message: Message): Platform | undefined {
  if (!isObject(message['platform'])) return undefined;
  const platform = messageIn(message, 'platform');
  const [variant, version] = [textIn(platform, 'Variant'), textIn(platform, 'OSVersion')];
  return {
    os: textIn(platform, 'OS'),
    architecture: textIn(platform, 'Architecture'),
    ...(variant === '' ? {} : { variant }),
    ...(version === '' ? {} : { 'os.version': version }),
  };
}

/** What a vertex is called where its front end gave no name. */
function nameOf(op: Operation): string {
  switch (op.kind) {
    case 'source':
      return op.identifier;
    case 'exec':
      return op.args.join(' ');
    case 'file':
      return op.actions
        .map((action) =>
          'path' in action ? `${action.kind} ${action.path}` : `copy ${action.source} ${action.target}`,
        )
        .join(', ');
    default:
      return op.kind;
  }
}

function locationIn(sources: Message, texts: readonly SourceText[], digest: string): SourceLocation | undefined {
  const found = fieldOf(sources['locations'], digest);
  const [first] = isObject(found) ? messagesIn(found, 'locations') : [];
  if (first === undefined) return undefined;
  const text = texts[numberIn(first, 'sourceIndex')];
  const ranges = messagesIn(first, 'ranges').map((range) => {
    const start = numberIn(messageIn(range, 'start'), 'line');
    return { start, end: Math.max(start, numberIn(messageIn(range, 'end'), 'line')) };
  });
  return text === undefined || ranges.length === 0 ? undefined : { text, ranges };
}

function partsOf(definition: Message): Uint8Array[] {
  return itemsOf(definition['def']).filter((part) => part instanceof Uint8Array);
}

/**
 * The output that a definition means; undefined: nothing (an empty definition is scratch). Throws BadRequest for what
 * is no definition: an input that was not defined before, an unknown operation, too many vertices.
 */
export function decodeDefinition(definition: Message): Edge | undefined {
  const parts = partsOf(definition);
  if (parts.length === 0) return undefined;
  if (parts.length > definitionVerticesMax)
    throw new ApiError('RequestEntityTooLarge', `a build definition has more than ${definitionVerticesMax} vertices`);
  const metadata = messageIn(definition, 'metadata');
  const vertices = new Map<string, { vertex: Vertex; outputs: number }>();
  const sources = messageIn(definition, 'Source');
  const texts = messagesIn(sources, 'infos').map((info): SourceText => ({
    filename: textIn(info, 'filename'),
    data: bytesIn(info, 'data'),
    language: textIn(info, 'language'),
    definition: { def: partsOf(messageIn(info, 'definition')).map((part) => Buffer.from(part).toString('base64')) },
  }));
  let last: Edge | undefined;
  for (const bytes of parts) {
    const message = decodeMessage('pb.Op', bytes);
    const digest = digestOfBytes(bytes);
    const inputs = messagesIn(message, 'inputs').map((input): Edge => {
      const found = vertices.get(textIn(input, 'digest'));
      if (found === undefined) return refuse(`invalid missing input digest ${textIn(input, 'digest').slice(0, 100)}`);
      const output = numberIn(input, 'index');
      if (output < 0 || output >= found.outputs) return refuse(`an operation has no output ${output}`);
      return { vertex: found.vertex, output };
    });
    const kinds = ['source', 'exec', 'file', 'merge', 'diff', 'build', 'passthrough'];
    if (!kinds.some((kind) => isObject(message[kind]))) {
      last = inputs[0] ?? refuse('invalid LLB with a last vertex without inputs');
      continue;
    }
    const { op, order } = operationOf(message);
    const about = fieldOf(metadata, digest);
    const given = textIn(messageIn(isObject(about) ? about : {}, 'description'), 'llb.customname');
    const vertex: Vertex = {
      digest,
      op,
      inputs:
        order === undefined
          ? inputs
          : order.map((at) => inputs[at] ?? refuse('an operation names an input that it has not')),
      platform: platformOf(message),
      name: given === '' ? nameOf(op) : given,
      ignoresCache: fieldOf(about, 'ignore_cache') === true,
      location: locationIn(sources, texts, digest),
    };
    vertices.set(digest, { vertex, outputs: checkOperation(op, vertex.inputs.length) });
    last = { vertex, output: 0 };
  }
  return last;
}
