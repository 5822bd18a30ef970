/**
 * `LLBBridge`: what a front end may ask of the build that it works for. The client's own front end asks over the
 * client's connection; one in an image over its standard input and output (`image-frontend.ts`).
 */
import { ApiError } from '#base/errors.ts';
import { normalizePlatform, parsePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { isObject } from '#base/unknown.ts';
import { noteLocation } from '../llb/location.ts';
import { deniedImage, downloadedName } from '../llb/sources.ts';
import { decodeDefinition, encodeDefinition, makeVertex } from '../llb/codec.ts';
import type { Edge, SourceOp } from '../llb/vertex.ts';
import { compilePattern } from '../patterns.ts';
import { buildDockerfile } from './dockerfile-frontend.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import type { Request } from './grpc.ts';
import { runImageFrontend } from './image-frontend.ts';
import type { Job, Returned } from './job.ts';
import type { FrontendAttestation, Result } from './result.ts';
import { cacheEntriesIn } from './travelling-cache.ts';
import { readFileRange, readStat, readStats } from './look.ts';
import { bytesOf, messageIn, messagesIn, numberIn, textIn, textMapIn, timestampOf } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';

/** What the bridge can do, by the protocol's names. */
const frontendCapabilities = [
  'solve.base',
  'resolveimage',
  'resolveimage.resolvemode',
  'readfile',
  'readdir',
  'statfile',
  'return',
  'returnmap',
  'proto.refarray',
  'reference.output',
  'frontend.inputs',
  'frontend.caps',
  'gateway.solve.metadata',
  'gateway.solve.evaluate',
  'gateway.evaluate',
  'gateway.warnings',
  'source.metaresolver',
];

/** Operations and their parts that are carried out. */
const llbCapabilities = [
  'source.image',
  'source.image.resolvemode',
  'source.local',
  'source.local.unique',
  'source.local.sessionid',
  'source.local.includepatterns',
  'source.local.followpaths',
  'source.local.excludepatterns',
  'source.local.sharedkeyhint',
  'source.git',
  'source.git.keepgitdir',
  'source.git.fullurl',
  'source.git.subdir',
  'source.git.checksum',
  'source.git.skipsubmodules',
  'source.git.mtime',
  'source.ocilayout',
  'source.http',
  'source.http.checksum',
  'source.buildop.llbfilename',
  'source.http.perm',
  'soruce.http.uidgid',
  'exec.meta.base',
  'exec.meta.cgroup.parent',
  'exec.meta.network',
  'exec.meta.proxyenv',
  'exec.meta.setsdefaultpath',
  'exec.meta.ulimit',
  'exec.meta.removemountstubs.recursive',
  'exec.mount.bind',
  'exec.mount.bind.readwrite-nooutput',
  'exec.mount.cache',
  'exec.mount.cache.sharing',
  'exec.mount.selector',
  'exec.mount.tmpfs',
  'exec.mount.tmpfs.size',
  'exec.mount.secret',
  'exec.mount.ssh',
  'exec.cgroup',
  'exec.secretenv',
  'exec.validexitcode',
  'file.base',
  'file.rm.wildcard',
  'file.copy.includeexcludepatterns',
  'file.copy.modestring',
  'file.symlink.create',
  'constraints',
  'platform',
  'meta.ignorecache',
  'meta.description',
  'meta.exportcache',
  'exporter.multiple',
  'exporter.image.annotations',
  'exporter.image.attestations',
  'mergeop',
  'diffop',
];

/** What is asked for beside the request itself. */
export interface FrontendCall {
  frontend: string;
  options: Record<string, string>;
  definition: Message;
  inputs: Message;
}

function decodeInputs(inputs: Message): Map<string, Edge | undefined> {
  return new Map(
    Object.entries(inputs).map(([name, definition]) => [
      name,
      decodeDefinition(isObject(definition) ? definition : {}),
    ]),
  );
}

/** What a front end makes of a request, or a definition as it is. */
export async function runFrontend(job: Job, call: FrontendCall): Promise<Result> {
  const { frontend, options, definition, inputs } = call;
  // What clients ask of it besides is no build.
  if (frontend !== '' && options['requestid'] === undefined) job.frontend ??= { name: frontend, options };
  if (frontend === '')
    return { refs: new Map([['', decodeDefinition(definition)]]), metadata: new Map<string, Buffer>() };
  const image = options['source'] ?? '';
  if (frontend === 'gateway.v0' && image !== 'dockerfile.v0') {
    if (image === '') throw new ApiError('BadRequest', 'no source image for the front end given');
    return runImageFrontend(job, { image, options, inputs }, (returned) =>
      bridgeMethods(async () => new Bridge(job, inputs, returned)),
    );
  }
  if (frontend !== 'dockerfile.v0' && frontend !== 'gateway.v0')
    throw new ApiError('BadRequest', `unknown frontend: ${frontend.slice(0, 100)}`);
  const made = await buildDockerfile(job, options, decodeInputs(inputs));
  if (!('image' in made)) return made;
  const named = { ...call, frontend: 'gateway.v0', options: { ...options, source: made.image, cmdline: made.image } };
  return runFrontend(job, named).catch((error: unknown) => {
    // What the front end itself finds has places of its own.
    noteLocation(error, made.location);
    throw error;
  });
}

export class Bridge {
  readonly #job: Job;
  readonly #inputs: Message;
  readonly #returned: Returned;

  constructor(job: Job, inputs: Message, returned: Returned) {
    this.#job = job;
    this.#inputs = inputs;
    this.#returned = returned;
  }

  get job(): Job {
    return this.#job;
  }

  inputs(): Message {
    return { Definitions: this.#inputs };
  }

  async solve(request: Message): Promise<Message> {
    refusePolicies(request);
    this.#job.cache.addImports(cacheEntriesIn(request, 'CacheImports'));
    const { refs, metadata } = await runFrontend(this.#job, {
      frontend: textIn(request, 'Frontend'),
      options: textMapIn(request, 'FrontendOpt'),
      definition: messageIn(request, 'Definition'),
      inputs: messageIn(request, 'FrontendInputs'),
    });
    if (request['Evaluate'] === true) for (const edge of refs.values()) await this.#job.steps(edge);
    const refOf = (edge: Edge | undefined): Message => ({
      id: this.#job.keep(edge),
      ...(edge === undefined ? {} : { def: encodeDefinition(edge) }),
    });
    const made = [...refs].map(([name, edge]): [string, Message] => [name, refOf(edge)]);
    const isOne = refs.size === 1 && refs.has('');
    return {
      result: {
        ...(isOne ? { ref: made[0]?.[1] ?? {} } : { refs: { refs: Object.fromEntries(made) } }),
        metadata: Object.fromEntries(metadata),
      },
    };
  }

  edgeOf(request: Message): Edge | undefined {
    return this.#job.reference(textIn(request, 'Ref'));
  }

  async evaluate(request: Message): Promise<Message> {
    await this.#job.steps(this.edgeOf(request));
    return {};
  }

  return(request: Message): Message {
    const failure = messageIn(request, 'error');
    if (numberIn(failure, 'code') !== code.ok) {
      const details = messagesIn(failure, 'details');
      this.#returned.reject(new GrpcError(numberIn(failure, 'code'), textIn(failure, 'message'), details));
      return {};
    }
    try {
      this.#returned.resolve(this.#result(messageIn(request, 'result')));
    } catch (error) {
      this.#returned.reject(error);
    }
    return {};
  }

  #result(result: Message): Result | undefined {
    const metadata = new Map(
      Object.entries(messageIn(result, 'metadata')).map(([name, value]) => [name, bytesOf(value)]),
    );
    const refs = new Map<string, Edge | undefined>();
    const idOf = (ref: unknown): string => textIn(isObject(ref) ? ref : {}, 'id');
    if (isObject(result['ref'])) refs.set('', this.#job.reference(idOf(result['ref'])));
    for (const [name, ref] of Object.entries(messageIn(messageIn(result, 'refs'), 'refs')))
      refs.set(name, this.#job.reference(idOf(ref)));
    const attestations = new Map(
      Object.entries(messageIn(result, 'attestations')).map(([name, each]) => [
        name,
        messagesIn(isObject(each) ? each : {}, 'attestation').map((one) => this.#attestation(one)),
      ]),
    );
    return refs.size === 0 && metadata.size === 0 ? undefined : { refs, metadata, attestations };
  }

  #attestation(message: Message): FrontendAttestation {
    const kind = numberIn(message, 'kind');
    if (kind !== attestationKind.inToto && kind !== attestationKind.bundle)
      throw new ApiError('BadRequest', `unknown attestation kind ${kind}`);
    if (messagesIn(message, 'inTotoSubjects').some((subject) => numberIn(subject, 'kind') !== selfSubject))
      throw new ApiError('BadRequest', 'attestations of front ends are about the image itself here');
    const metadata = messageIn(message, 'metadata');
    return {
      isBundle: kind === attestationKind.bundle,
      edge: this.#job.reference(textIn(messageIn(message, 'ref'), 'id')),
      path: textIn(message, 'path'),
      predicateType: textIn(message, 'inTotoPredicateType'),
      core: bytesOf(metadata['sbom-core']).toString('utf8'),
      isInlineOnly: isTrueText(bytesOf(metadata['inline-only']).toString('utf8')),
    };
  }

  async readFile(request: Message): Promise<Message> {
    const range = messageIn(request, 'Range');
    const [offset, length] = [numberIn(range, 'Offset'), numberIn(range, 'Length')];
    const path = textIn(request, 'FilePath');
    return this.#job.look(this.edgeOf(request), async (root) => ({ Data: readFileRange(root, path, offset, length) }));
  }

  async readDir(request: Message): Promise<Message> {
    const pattern = textIn(request, 'IncludePattern');
    const matcher = pattern === '' ? undefined : compilePattern(pattern, { doubleStar: true });
    return this.#job.look(this.edgeOf(request), async (root) => {
      const entries = readStats(root, textIn(request, 'DirPath'));
      return { entries: entries.filter((stat) => matcher === undefined || matcher.test(textIn(stat, 'path'))) };
    });
  }

  async statFile(request: Message): Promise<Message> {
    const path = textIn(request, 'Path');
    return this.#job.look(this.edgeOf(request), async (root) => ({ stat: readStat(root, path) }));
  }

  async #imageOf(
    identifier: string,
    request: Message,
    given: Record<string, string> = {},
  ): Promise<{ digest: string; config: Buffer }> {
    const isPull = textIn(request, 'ResolveMode') === 'pull';
    const attributes = { ...given, ...(isPull ? { 'image.resolvemode': 'pull' } : {}) };
    const name = `[internal] load metadata for ${identifier.replace(/^[a-z-]+:\/\//, '')}`;
    const platform = platformOf(messageIn(request, 'Platform'));
    const vertex = makeVertex({ kind: 'source', identifier, attributes }, [], { name, platform });
    const record = await this.#job.sources.image({ vertex, output: 0 });
    const { blobs } = this.#job.builder.parts.content;
    const config = await blobs.readBytes(record.id, blobs.size(record.id) ?? 0);
    return { digest: record.manifestDigest === '' ? record.id : record.manifestDigest, config: Buffer.from(config) };
  }

  async resolveImage(request: Message): Promise<Message> {
    const reference = textIn(request, 'Ref');
    const { digest, config } = await this.#imageOf(`docker-image://${reference}`, request);
    return { Digest: digest, Config: config, Ref: reference };
  }

  async resolveSource(request: Message): Promise<Message> {
    refusePolicies(request);
    const given = messageIn(request, 'Source');
    const asked: SourceOp = {
      kind: 'source',
      identifier: textIn(given, 'identifier'),
      attributes: textMapIn(given, 'attrs'),
    };
    // Who asks for an image is told when a policy puts something else in its place.
    const op = this.#job.sources.permitted(asked, deniedImage);
    const { identifier } = op;
    const source: Message = { identifier, attrs: op.attributes };
    if (identifier.startsWith('git://')) return { Source: source, Git: await this.#gitMetadata(op, request) };
    if (/^https?:/.test(identifier)) return { Source: source, HTTP: await this.#webMetadata(op) };
    if (!/^(?:docker-image|oci-layout):\/\//.test(identifier)) return { Source: source };
    const { digest, config } = await this.#imageOf(identifier, request, op.attributes);
    return { Source: source, Image: { Digest: digest, Config: config } };
  }

  async #gitMetadata(op: SourceOp, request: Message): Promise<Message> {
    const isWhole = messageIn(request, 'Git')['ReturnObject'] === true;
    const { ref, object, commit, commitObject, tagObject } = await this.#job.repository(op, isWhole);
    return {
      Checksum: object,
      Ref: ref,
      ...(commit === object ? {} : { CommitChecksum: commit }),
      ...(commitObject === undefined ? {} : { CommitObject: commitObject }),
      ...(tagObject === undefined ? {} : { TagObject: tagObject }),
    };
  }

  async #webMetadata(op: SourceOp): Promise<Message> {
    const found = await this.#job.sources.download(op, false);
    const { digest, modifiedAtMs } = found;
    return {
      Checksum: digest,
      Filename: downloadedName(op, found),
      ...(modifiedAtMs === undefined ? {} : { LastModified: timestampOf(modifiedAtMs) }),
    };
  }

  warn(request: Message): Message {
    const { digest, level, short, detail, url, info, ranges } = request;
    this.#job.progress.tell({ vertex: digest, level, short, detail, url, info, ranges });
    return {};
  }
}

const attestationKind = { inToto: 0, bundle: 1 };
/** Of subjects: what the attestation lies beside. */
const selfSubject = 0;
const isTrueText = (text: string): boolean => text === 'true' || text === '1';

/** The client's policy holds; one that a front end adds is not known. */
function refusePolicies(request: Message): void {
  if (messagesIn(request, 'SourcePolicies').length > 0)
    throw new ApiError('BadRequest', 'source policies of front ends are not applied yet');
}

function platformOf(message: Message): Platform | undefined {
  const parts = ['OS', 'Architecture', 'Variant'].map((name) => textIn(message, name)).filter((part) => part !== '');
  if (parts.length < 2) return undefined;
  return normalizePlatform({ ...parsePlatform(parts.join('/')), 'os.version': textIn(message, 'OSVersion') });
}

type Method = (bridge: Bridge, request: Message) => Promise<Message> | Message;

/** Methods by path; `bridgeOf` finds the front end that a call is of. */
export function bridgeMethods(
  bridgeOf: (call: Request) => Promise<Bridge>,
): [string, (call: Request) => Promise<Message>][] {
  const capability = (id: string): Message => ({ ID: id, Enabled: true });
  const methods: Record<string, Method> = {
    Ping: ({ job }) => ({
      FrontendAPICaps: frontendCapabilities.map(capability),
      LLBCaps: llbCapabilities.map(capability),
      Workers: [job.worker],
    }),
    Solve: (bridge, request) => bridge.solve(request),
    Evaluate: (bridge, request) => bridge.evaluate(request),
    Return: (bridge, request) => bridge.return(request),
    Inputs: (bridge) => bridge.inputs(),
    ReadFile: (bridge, request) => bridge.readFile(request),
    ReadDir: (bridge, request) => bridge.readDir(request),
    StatFile: (bridge, request) => bridge.statFile(request),
    ResolveImageConfig: (bridge, request) => bridge.resolveImage(request),
    ResolveSourceMeta: (bridge, request) => bridge.resolveSource(request),
    Warn: (bridge, request) => bridge.warn(request),
  };
  return Object.entries(methods).map(([name, method]) => [
    `/moby.buildkit.v1.frontend.LLBBridge/${name}`,
    async (call) => method(await bridgeOf(call), call.request),
  ]);
}
