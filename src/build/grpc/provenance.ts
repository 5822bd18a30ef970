/**
 * How an image was made: which front end, with what, from which sources; with `mode=max` also the graph and the
 * sources' text. Secrets are named, never shown; with `mode=min` neither they nor arguments and labels are.
 *
 * Source: SLSA provenance 1 and 0.2; BuildKit, "SLSA definitions".
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import { isObject } from '#base/unknown.ts';
import type { JsonObject } from '#base/unknown.ts';
import { decodeDefinition, encodeDefinition } from '../llb/codec.ts';
import { redactUrl } from '../llb/download.ts';
import { placeOfText } from '../llb/location.ts';
import type { SourceText } from '../llb/location.ts';
import { listVertices } from '../llb/vertex.ts';
import type { Edge, Vertex } from '../llb/vertex.ts';
import type { Job } from './job.ts';
import { bytesOf, messageIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import { decodeMessage } from './messages.ts';
import { layersOfSteps } from './provenance-layers.ts';
import { splitResult } from './result.ts';
import type { Result } from './result.ts';
import { purlOf } from './statement.ts';
import type { Statement, Subject } from './statement.ts';

export interface Provenance {
  isMax: boolean;
  version: 'v1' | 'v0.2';
  builderId: string;
  filename: string;
  isReproducible: boolean;
}

export function parseProvenance(fields: Readonly<Record<string, string>>): Provenance {
  const { mode = 'max', version = 'v1' } = fields;
  if (!/^(?:min|max|full)$/.test(mode)) throw new ApiError('BadRequest', `invalid mode ${JSON.stringify(mode)}`);
  if (version !== 'v1' && version !== 'v0.2')
    throw new ApiError('BadRequest', `invalid provenance SLSA version: ${version.slice(0, 100)}`);
  return {
    isMax: mode !== 'min',
    version,
    builderId: fields['builder-id'] ?? '',
    filename: fields['filename'] ?? 'provenance.json',
    isReproducible: /^(?:true|1)$/.test(fields['reproducible'] ?? ''),
  };
}

/** Which version of the language the built-in front end reads. */
export const dockerfileVersion = '1';

interface Material {
  uri: string;
  digest?: Record<string, string>;
}

/** What the graph says of its sources and of what its commands are given. */
interface Capture {
  materials: Material[];
  locals: string[];
  secrets: { id: string; optional?: true }[];
  ssh: { id: string; optional?: true }[];
  isComplete: boolean;
  usesNetwork: boolean;
}

function digestSet(digest: string): Record<string, string> {
  const [algorithm = '', hex = ''] = digest.split(':');
  return { [algorithm]: hex };
}

async function addSource(job: Job, vertex: Vertex, capture: Capture): Promise<void> {
  if (vertex.op.kind !== 'source') return;
  const { identifier, attributes } = vertex.op;
  const [, scheme = '', rest = ''] = /^([a-z-]+):\/\/(.*)$/s.exec(identifier) ?? [];
  if (scheme === 'docker-image') {
    const record = await job.sources.image({ vertex, output: 0 });
    const target = job.builder.parts.images.findTarget(rest);
    const digest = target?.index?.digest ?? (record.manifestDigest === '' ? record.id : record.manifestDigest);
    capture.materials.push({ uri: purlOf(rest, vertex.platform), digest: digestSet(digest) });
  } else if (scheme === 'oci-layout') {
    const record = await job.sources.image({ vertex, output: 0 });
    const digest = /@(.+)$/.exec(rest)?.[1] ?? (record.manifestDigest === '' ? record.id : record.manifestDigest);
    capture.materials.push({ uri: purlOf(rest, vertex.platform, 'oci'), digest: digestSet(digest) });
  } else if (scheme === 'local') capture.locals.push(rest);
  else if (scheme === 'git') {
    const commit =
      job.sources.commitOf(vertex.op) ?? attributes['git.checksum'] ?? /#([0-9a-f]{40}|[0-9a-f]{64})$/.exec(rest)?.[1];
    // Whole, whichever directory of it is taken.
    const [place = '', fragment = ''] = rest.split('#', 2);
    const reference = fragment.replace(/:.*$/s, '');
    const uri = redactUrl(`${attributes['git.fullurl'] ?? place}${reference === '' ? '' : `#${reference}`}`);
    const algorithm = commit?.length === 64 ? 'sha256' : 'sha1';
    capture.materials.push({ uri, ...(commit === undefined ? {} : { digest: { [algorithm]: commit } }) });
    if (commit === undefined) capture.isComplete = false;
  } else {
    const checksum = attributes['http.checksum'] ?? (await job.sources.download(vertex.op, false)).digest;
    capture.materials.push({ uri: redactUrl(identifier), digest: digestSet(checksum) });
  }
}

async function captureGraph(job: Job, edge: Edge | undefined): Promise<Capture> {
  const capture: Capture = {
    materials: [],
    locals: [],
    secrets: [],
    ssh: [],
    isComplete: true,
    usesNetwork: false,
  };
  for (const vertex of edge === undefined ? [] : listVertices(edge.vertex)) {
    await addSource(job, vertex, capture);
    if (vertex.op.kind !== 'exec') continue;
    if (vertex.op.network !== 'none') capture.usesNetwork = true;
    for (const { id, isOptional } of vertex.op.secretEnv)
      capture.secrets.push({ id, ...(isOptional ? { optional: true } : {}) });
    for (const { kind, id, isOptional } of vertex.op.mounts) {
      const optional = isOptional ? { optional: true as const } : {};
      if (kind === 'secret') capture.secrets.push({ id, ...optional });
      // An agent without a name is the default one.
      if (kind === 'ssh') capture.ssh.push({ id: id === '' ? 'default' : id, ...optional });
    }
  }
  if (capture.locals.length > 0 || job.locals.size > 0) capture.isComplete = false;
  const isImage = ({ uri }: Material): boolean => uri.startsWith('pkg:');
  capture.materials.sort((a, b) => Number(isImage(b)) - Number(isImage(a)));
  return capture;
}

/** As Go's encoder shows a message: without what is empty, bytes in base64. */
function toJson(value: unknown): unknown {
  if (value instanceof Uint8Array) return bytesOf(value).toString('base64');
  if (Array.isArray(value)) return value.map(toJson);
  if (!isObject(value)) return value;
  const isEmpty = (each: unknown): boolean =>
    each === null ||
    each === undefined ||
    each === '' ||
    each === 0 ||
    each === false ||
    (Array.isArray(each) && each.length === 0) ||
    (each instanceof Uint8Array && each.length === 0);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => !isEmpty(each))
      .map(([name, each]) => [name, toJson(each)]),
  );
}

const operations = ['source', 'exec', 'file', 'merge', 'diff', 'build'];

/** Who shares a directory, and for how long, is not what it is. */
function forgetSession(source: Message): void {
  const attributes = messageIn(source, 'attrs');
  for (const name of ['local.session', 'local.unique']) delete attributes[name];
}

/** A graph in steps, each with what it works on. `ids`: names of the steps, by the digests of their vertices. */
function showSteps(edge: Edge): { ids: Map<string, string>; steps: JsonObject[] } {
  const vertices = listVertices(edge.vertex);
  const ids = new Map(vertices.map(({ digest }, at) => [digest, `step${at}`]));
  const { def } = encodeDefinition(edge);
  const steps = vertices.map(({ digest, inputs }, at) => {
    const bytes: unknown = Array.isArray(def) ? def[at] : undefined;
    const message = decodeMessage('pb.Op', bytesOf(bytes));
    forgetSession(messageIn(message, 'source'));
    const operation = operations.filter((name) => isObject(message[name])).map((name) => [name, toJson(message[name])]);
    const platform = toJson(messageIn(message, 'platform'));
    return {
      id: ids.get(digest),
      op: { Op: Object.fromEntries(operation), platform, constraints: {} },
      ...(inputs.length === 0
        ? {}
        : { inputs: inputs.map(({ vertex, output }) => `${ids.get(vertex.digest) ?? ''}:${output}`) }),
    };
  });
  // The last one says which output is meant.
  const meant = `${ids.get(edge.vertex.digest) ?? ''}:${edge.output}`;
  return { ids, steps: [...steps, { id: `step${steps.length}`, op: { constraints: {} }, inputs: [meant] }] };
}

const mappingOf = (ids: ReadonlyMap<string, string>): JsonObject => Object.fromEntries(ids);

/** A text, and how it came here. */
function showText({ filename, language, data, definition }: SourceText): JsonObject {
  const edge = decodeDefinition({ def: (definition?.def ?? []).map((part) => Buffer.from(part, 'base64')) });
  const shown = { filename, language, data: data.toString('base64') };
  if (edge === undefined) return shown;
  const { ids, steps } = showSteps(edge);
  return { ...shown, llbDefinition: steps, digestMapping: mappingOf(ids) };
}

/** The graph, where the front end's source says it, and what each of its steps is in the image. */
function showGraph({ edge, steps: made }: Subject): { config: JsonObject; about: JsonObject } | undefined {
  if (edge === undefined) return undefined;
  const { ids, steps } = showSteps(edge);
  const texts: SourceText[] = [];
  const locations = listVertices(edge.vertex).flatMap(({ digest, location }): [string, unknown][] => {
    if (location === undefined) return [];
    const ranges = location.ranges.map(({ start, end }) => ({ start: { line: start }, end: { line: end } }));
    const place = { sourceIndex: placeOfText(texts, location.text), ranges };
    return [[ids.get(digest) ?? '', { locations: [place] }]];
  });
  const layers = made === undefined ? [] : [...layersOfSteps(edge, made)];
  const shownLayers = layers.map(([{ vertex, output }, each]) => [`${ids.get(vertex.digest) ?? ''}:${output}`, [each]]);
  return {
    config: { llbDefinition: steps, digestMapping: mappingOf(ids) },
    about: {
      source: { locations: Object.fromEntries(locations), infos: texts.map(showText) },
      ...(layers.length === 0 ? {} : { layers: Object.fromEntries(shownLayers) }),
    },
  };
}

/** They say how this host builds, or what is attested: not what the result is. */
const hostAttributes =
  /^(?:cgroup-parent|image-resolve-mode|platform|cache-imports|cache-from|multi-platform|attest:.*|local-sessionid:.*|frontend\.caps|requestid)$/;

interface Request {
  configSource: { uri?: string; path?: string };
  request: JsonObject;
  vcs: Record<string, string>;
  isComplete: boolean;
}

function showRequest(job: Job, capture: Capture, isMax: boolean): Request {
  const { name = '', options = {} } = job.frontend ?? {};
  const args: Record<string, string> = {};
  const vcs: Record<string, string> = {};
  const { context, filename } = options;
  let isComplete = name !== '';
  for (const [key, value] of Object.entries(options)) {
    if (hostAttributes.test(key) || key === 'context' || key === 'filename') continue;
    if (key.startsWith('vcs:')) vcs[key.slice('vcs:'.length)] = redactUrl(value);
    else if (isMax || !/^(?:build-arg|label):/.test(key)) args[key] = redactUrl(value);
    else isComplete = false;
  }
  const locals = [...new Set([...job.locals, ...capture.locals])].sort().map((each) => ({ name: each }));
  const given = isMax
    ? {
        ...(capture.secrets.length === 0 ? {} : { secrets: capture.secrets }),
        ...(capture.ssh.length === 0 ? {} : { ssh: capture.ssh }),
      }
    : {};
  return {
    configSource: {
      ...(context === undefined || context === '' ? {} : { uri: redactUrl(context) }),
      ...(filename === undefined || filename === '' ? {} : { path: filename }),
    },
    request: {
      ...(name === '' ? {} : { frontend: name }),
      ...(Object.keys(args).length === 0 ? {} : { args }),
      ...given,
      ...(locals.length === 0 ? {} : { locals }),
    },
    vcs,
    isComplete,
  };
}

/** What both versions of the predicate tell, each in its words. */
interface Told {
  job: Job;
  asked: Provenance;
  capture: Capture;
  shown: Request;
  /** The graph, where it is to be told. */
  config: JsonObject;
  /** Of the version control, the graph's source and its layers. */
  about: JsonObject;
  isHermetic: boolean;
  host: string;
  target: string;
  startedOn: string;
  finishedOn: string;
  dockerfile: JsonObject;
}

function predicateOfOld(told: Told): JsonObject {
  const { job, asked, capture, shown, isHermetic } = told;
  const { configSource, request, isComplete } = shown;
  const entryPoint = configSource.path === undefined ? {} : { entryPoint: configSource.path };
  return {
    builder: { id: asked.builderId },
    buildType: 'https://mobyproject.org/buildkit@v1',
    materials: capture.materials,
    invocation: {
      configSource: { ...configSource, ...entryPoint },
      parameters: request,
      environment: { platform: told.host, ...told.dockerfile },
    },
    ...told.config,
    metadata: {
      buildInvocationID: job.request.ref,
      buildStartedOn: told.startedOn,
      buildFinishedOn: told.finishedOn,
      completeness: { parameters: isComplete, environment: true, materials: capture.isComplete },
      reproducible: asked.isReproducible,
      ...(isHermetic ? { 'https://mobyproject.org/buildkit@v1#hermetic': true } : {}),
      'https://mobyproject.org/buildkit@v1#metadata': told.about,
    },
  };
}

function predicateOf(told: Told): JsonObject {
  const { job, asked, capture, shown, isHermetic, startedOn, finishedOn } = told;
  const { configSource, request, isComplete } = shown;
  const platforms = { builderPlatform: told.host, targetPlatform: told.target };
  return {
    buildDefinition: {
      buildType: 'https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md',
      externalParameters: { configSource, request },
      internalParameters: { ...told.config, ...platforms, ...told.dockerfile },
      resolvedDependencies: capture.materials,
    },
    runDetails: {
      builder: { id: asked.builderId },
      metadata: {
        invocationId: job.request.ref,
        startedOn,
        finishedOn,
        buildkit_metadata: told.about,
        ...(isHermetic ? { buildkit_hermetic: true } : {}),
        buildkit_completeness: { request: isComplete, resolvedDependencies: capture.isComplete },
        ...(asked.isReproducible ? { buildkit_reproducible: true } : {}),
      },
    },
  };
}

export async function provenanceOf(job: Job, subject: Subject, asked: Provenance): Promise<Statement> {
  const capture = await captureGraph(job, subject.edge);
  const shown = showRequest(job, capture, asked.isMax);
  const graph = asked.isMax ? showGraph(subject) : undefined;
  const told: Told = {
    job,
    asked,
    capture,
    shown,
    config: graph === undefined ? {} : { buildConfig: graph.config },
    about: { ...(Object.keys(shown.vcs).length === 0 ? {} : { vcs: shown.vcs }), ...graph?.about },
    isHermetic: capture.isComplete && !capture.usesNetwork,
    host: formatPlatform(hostPlatform()),
    target: formatPlatform(subject.platform),
    startedOn: new Date(job.startedAtMs).toISOString(),
    finishedOn: new Date(job.builder.parts.clock.now()).toISOString(),
    dockerfile: job.frontend?.name === 'dockerfile.v0' ? { dockerfileVersion } : {},
  };
  const isOld = asked.version === 'v0.2';
  return {
    filename: asked.filename,
    predicateType: `https://slsa.dev/provenance/${asked.version}`,
    predicate: isOld ? predicateOfOld(told) : predicateOf(told),
  };
}

/** What the history keeps of a build that went well, by platform; '' where the result is one alone. */
export async function recordedProvenance(
  job: Job,
  result: Result,
  attributes: Readonly<Record<string, string>>,
): Promise<{ platform: string; statement: Statement }[]> {
  if (result.refs.size === 0) return [];
  const isMap = !result.refs.has('');
  const given = attributes['attest:provenance'] ?? attributes['build-arg:BUILDKIT_ATTEST_PROVENANCE'] ?? '';
  const builderId = /(?:^|,)builder-id=([^,]*)/.exec(given)?.[1] ?? '';
  const asked = { ...parseProvenance({}), builderId };
  return Promise.all(
    splitResult(result).map(async ({ id, platform, edge }) => ({
      platform: isMap ? id : '',
      statement: await provenanceOf(job, { name: id, platform, edge }, asked),
    })),
  );
}
