/**
 * The Dockerfile front end of BuildKit's clients: attributes in, the graph's edge and the image's configuration out.
 * Its files are the client's: the Dockerfile, the build context, and contexts by name.
 */
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { platformOf } from '#content/image-file.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { ImageFile } from '#content/image-file.ts';
import { createIgnoreRules, ignorePatterns } from '../patterns.ts';
import type { IgnoreRules } from '../patterns.ts';
import { cleanContextPath } from '../context.ts';
import type { BuildContext } from '../context.ts';
import { Conversion } from '../dockerfile/convert.ts';
import type { ConvertEnvironment } from '../dockerfile/convert.ts';
import { parseDirectives } from '../dockerfile/lexer.ts';
import { lintInstruction } from '../dockerfile/lint-file.ts';
import { Lint, descriptionOf, parseLintSettings, shortText, urlOf } from '../dockerfile/lint.ts';
import { collectOutline } from '../dockerfile/outline.ts';
import { parseDockerfile, stageName } from '../dockerfile/parser.ts';
import type { StageOutline } from '../dockerfile/outline.ts';
import type { Dockerfile, Stage } from '../dockerfile/parser.ts';
import type { StageBase } from '../dockerfile/stage.ts';
import { gitSource, isGitUrl } from '../git-url.ts';
import { itemsOf } from '#base/unknown.ts';
import { encodeDefinition, makeVertex } from '../llb/codec.ts';
import { locationOf, noteLocation } from '../llb/location.ts';
import type { SourceLocation, SourceText } from '../llb/location.ts';
import { archiveAt } from '../llb/copy-source.ts';
import { narrowLocals } from '../llb/narrow.ts';
import { plainCopy, unpackVertex } from '../llb/vertex-parts.ts';
import type { VertexOutput } from '../llb/output.ts';
import { deniedImage } from '../llb/sources.ts';
import type { Edge, FileAction } from '../llb/vertex.ts';
import { splitNetwork } from '../build.ts';
import { dateImage } from '../image-config.ts';
import { isBuiltInFrontend, parseAttributes } from './attributes.ts';
import type { FrontendRequest } from './attributes.ts';
import { configKey, epochKey, platformsKey } from './result.ts';
import type { Job } from './job.ts';
import { NamedContexts, sourceEdge } from './named-contexts.ts';
import type { Result } from './result.ts';
import { answerRequest, checkCapabilities } from './requests.ts';
import type { FrontendSource } from './requests.ts';
import { timeOfSource } from './source-time.ts';
import { archiveAttribute, dockerfileAttribute, readTexts, receiveTexts } from './local-source.ts';

interface Definition {
  text: string;
  /** Of an ignore file beside the Dockerfile, in place of the context's own. */
  ignore: string | undefined;
}

const uploaded = /^http:\/\/buildkit-session\/(.*)$/;

/** `dockerfile`, which is taken where there is no `Dockerfile`. */
function lowerName(filename: string): string | undefined {
  const base = posix.basename(filename);
  return base === 'Dockerfile' ? posix.join(posix.dirname(filename), base.toLowerCase()) : undefined;
}

interface BuiltPlatform {
  platform: Platform;
  createdAtMs: number | undefined;
  edge: Edge | undefined;
  file: ImageFile;
  /** What a scanner is to see beside the result, by name: the context, and stages. */
  scanned: Map<string, Edge | undefined>;
}

type FrontendResult =
  | { kind: 'build'; built: BuiltPlatform[] }
  /** The Dockerfile names another front end. */
  | { kind: 'image'; image: string; location: SourceLocation }
  /** Of a request that is no build. */
  | { kind: 'answer'; metadata: Map<string, Buffer> };

class DockerfileFrontend implements ConvertEnvironment {
  readonly #job: Job;
  readonly #asked: FrontendRequest;
  /** Of a file beside the Dockerfile. */
  #ignore: string | undefined;
  #contextIgnore: Promise<string> | undefined;
  /** Progress of the Dockerfile's loading, which warnings are about. */
  #definitionLine: string | undefined;
  readonly #configs = new Map<string, Promise<ImageFile>>();
  /** Digests of vertices that are directories of the client, as wholes. */
  readonly #directories = new Set<string>();
  #remote: Promise<{ edge: Edge | undefined; dockerfile?: string }> | undefined;

  readonly #named: NamedContexts;

  constructor(job: Job, asked: FrontendRequest) {
    this.#job = job;
    this.#asked = asked;
    this.#named = new NamedContexts(job, asked, {
      readTexts: (directory, files, line) => this.#small(directory, files, line),
      local: (directory, name, ignore) => this.#local(directory, name, ignore),
      imageConfig: (image, place, name) => this.#imageConfig(image, place, name),
    });
  }

  async run(): Promise<FrontendResult> {
    const { filename, frontend, requestId, contextUrl, contextDirectory, inputs } = this.#asked;
    if (contextUrl === undefined && !inputs.has('context')) this.#job.locals.add(contextDirectory);
    const { text, ignore } = await this.#definition();
    this.#ignore = ignore;
    const syntax = frontend ?? /^#\s*syntax\s*=\s*(\S+)/i.exec(text)?.[1];
    const own = encodeDefinition(sourceEdge(`local://${this.#asked.dockerfileDirectory}`, {}, filename));
    const def = itemsOf(own['def']).filter((part) => part instanceof Uint8Array);
    const source: SourceText = {
      filename,
      data: Buffer.from(text),
      language: 'Dockerfile',
      definition: { def: def.map((part) => Buffer.from(part).toString('base64')) },
    };
    if (syntax !== undefined && !isBuiltInFrontend(syntax)) {
      const line = text.slice(0, text.search(/^#\s*syntax\s*=/im)).split('\n').length;
      return { kind: 'image', image: syntax, location: { text: source, ranges: [{ start: line, end: line }] } };
    }
    const lint = new Lint(parseLintSettings(this.#asked.checks ?? parseDirectives(text)['check'] ?? ''));
    if (requestId !== undefined) {
      const metadata = await answerRequest(requestId, { text: source, ...this.#questions(source, lint) });
      return { kind: 'answer', metadata };
    }
    try {
      const file = this.#parse(source, lint);
      const { platforms } = this.#asked;
      const built: BuiltPlatform[] = [];
      for (const platform of platforms.length === 0 ? [hostPlatform()] : platforms)
        built.push(await this.#convert(await this.#conversion(file, source, { platform, lint }), platform));
      lint.check();
      const edges = built.flatMap(({ edge, scanned }) => [edge, ...scanned.values()]);
      const narrow = narrowLocals(edges, this.#directories);
      return {
        kind: 'build',
        built: built.map(({ edge, scanned, ...rest }) => ({
          ...rest,
          edge: narrow(edge),
          scanned: new Map([...scanned].map(([name, each]) => [name, narrow(each)])),
        })),
      };
    } catch (error) {
      this.#locate(error, source);
      throw error;
    } finally {
      this.#tell(lint, source);
    }
  }

  /** A place that the words of an error name, of what is written wrongly. */
  #locate(error: unknown, source: SourceText): void {
    const line = Number(/^dockerfile parse error on line (\d+)/.exec(messageOf(error))?.[1]);
    if (line > 0) noteLocation(error, { text: source, ranges: [{ start: line, end: line }] });
  }

  /** Users are told what checks found. */
  #tell(lint: Lint, source: SourceText): void {
    for (const warning of lint.found)
      this.#job.progress.warn(this.#definitionLine ?? '', shortText(warning), {
        detail: descriptionOf(warning.rule),
        url: urlOf(warning.rule),
        location: { text: source, ranges: [warning] },
      });
  }

  #parse(source: SourceText, lint: Lint): Dockerfile {
    return parseDockerfile(source.data.toString('utf8'), (instruction) => lintInstruction(lint, instruction));
  }

  /** What is asked of a Dockerfile instead of a build. */
  #questions(source: SourceText, lint: Lint): Omit<FrontendSource, 'text'> {
    const platform = this.#asked.platforms[0] ?? hostPlatform();
    return {
      parse: () => this.#parse(source, lint),
      lint: async () => {
        let error: unknown;
        try {
          const conversion = await this.#conversion(this.#parse(source, lint), source, { platform, lint });
          // Without a target, all of them.
          const isAll = (this.#asked.build.target ?? '') === '';
          for (const stage of isAll ? conversion.file.stages : [conversion.target]) await conversion.build(stage);
          lint.check();
        } catch (thrown) {
          error = thrown;
          this.#locate(error, source);
        }
        return { warnings: lint.found, error };
      },
      outline: async () => {
        const conversion = await this.#conversion(this.#parse(source, lint), source, { platform, lint });
        const outlines = new Map<Stage, StageOutline>();
        for (const stage of conversion.stages) outlines.set(stage, (await conversion.build(stage)).converter.outline);
        const none: StageOutline = { args: new Map(), used: new Set(), secrets: new Map(), agents: new Map() };
        return collectOutline(
          conversion.target,
          (stage) => outlines.get(stage) ?? none,
          (stage) => conversion.dependencies(stage),
        );
      },
    };
  }

  async #conversion(
    file: Dockerfile,
    source: SourceText,
    how: { platform: Platform; lint: Lint },
  ): Promise<Conversion> {
    const { build, run } = this.#asked;
    const { network } = splitNetwork(run.network);
    const { platform, lint } = how;
    const conversion = new Conversion(
      file,
      {
        ...build,
        lint,
        platform,
        isMultiPlatform: this.#asked.isMultiPlatform,
        source,
        network,
        extraHosts: run.extraHosts,
        ulimits: run.resources?.ulimits ?? [],
        isClassic: false,
      },
      this,
    );
    await conversion.settleEpoch();
    return conversion;
  }

  async #convert(conversion: Conversion, platform: Platform): Promise<BuiltPlatform> {
    const { converter } = await conversion.build(conversion.target);
    // Of a platform that is asked for, whatever the last stage ran on.
    const { variant: _variant, 'os.version': version = '', ...made } = converter.file;
    const isSame = made.os === platform.os && made.architecture === platform.architecture;
    const own = isSame && version !== '' ? { 'os.version': version } : {};
    const isAsked = this.#asked.platforms.length > 0;
    const { createdAtMs } = conversion;
    const file = isAsked ? { ...made, ...own, ...platform } : converter.file;
    const scanned = await this.#scanned(conversion);
    return { platform, createdAtMs, edge: converter.edge, file: dateImage(file, createdAtMs), scanned };
  }

  async #scanned(conversion: Conversion): Promise<BuiltPlatform['scanned']> {
    const scanned = new Map<string, Edge | undefined>();
    const { target, stages } = conversion;
    const { converter } = await conversion.build(target);
    if (converter.isScanned('BUILDKIT_SBOM_SCAN_CONTEXT', target)) scanned.set('context', await this.context());
    for (const stage of stages) {
      if (stage === target) continue;
      const other = (await conversion.build(stage)).converter;
      if (other.isScanned('BUILDKIT_SBOM_SCAN_STAGE', stage)) scanned.set(stageName(stage), other.edge);
    }
    return scanned;
  }

  /** The Dockerfile, and the ignore file beside it. */
  async #definition(): Promise<Definition> {
    const { filename, dockerfileDirectory: name, contextUrl, hasOwnDockerfile } = this.#asked;
    const files = [filename, lowerName(filename), `${filename}.dockerignore`].filter((each) => each !== undefined);
    const input = hasOwnDockerfile ? undefined : this.#asked.inputs.get(name);
    if (input !== undefined) {
      if (input.edge === undefined) throw new ApiError('BadRequest', 'invalid nil input definition to definition op');
      const texts = await this.#job.look(input.edge, async (root) => readTexts(root, files));
      return this.#read((path) => texts.get(path));
    }
    // What is fetched holds its Dockerfile, unless the client shares one apart.
    if (contextUrl !== undefined && !hasOwnDockerfile) {
      const remote = await (this.#remote ??= this.#openRemote(contextUrl));
      if (remote.dockerfile !== undefined) return { text: remote.dockerfile, ignore: undefined };
      const texts = await this.#job.look(remote.edge, async (root) => readTexts(root, files));
      return this.#read((path) => texts.get(path));
    }
    return this.#job.shown(`[internal] load build definition from ${posix.basename(filename)}`, async (line) => {
      this.#definitionLine = line.digest;
      const found = await this.#small(name, files, line);
      return this.#read((path) => found.text(path));
    });
  }

  #read(textOf: (path: string) => string | undefined): Definition {
    const { filename } = this.#asked;
    const lower = lowerName(filename);
    const text =
      textOf(cleanContextPath(filename)) ?? (lower === undefined ? undefined : textOf(cleanContextPath(lower)));
    if (text === undefined)
      throw new ApiError('BadRequest', `failed to read dockerfile: open ${filename}: no such file or directory`);
    return { text, ignore: textOf(cleanContextPath(`${filename}.dockerignore`)) };
  }

  /** A few files of a directory of the client. */
  async #small(name: string, files: string[], output: Pick<VertexOutput, 'count'>): Promise<BuildContext> {
    const { builder, signal, locals } = this.#job;
    locals.add(name);
    this.#job.sources.permitted({ kind: 'source', identifier: `local://${name}`, attributes: {} });
    const session = await this.#job.session(signal, this.#asked.sessions.get(name));
    return this.#job.adopt(await receiveTexts({ builder, session, name, attributes: {}, output, signal }, files));
  }

  /** A context that is fetched: an archive of the client, a git repository, an archive or a Dockerfile of the web. */
  async #openRemote(url: string): Promise<{ edge: Edge | undefined; dockerfile?: string }> {
    const archive = uploaded.exec(url)?.[1];
    const name = '[internal] load remote build context';
    if (archive !== undefined) {
      const attributes = { [archiveAttribute]: archive, [dockerfileAttribute]: this.#asked.filename };
      return { edge: sourceEdge('local://context', attributes, name) };
    }
    if (isGitUrl(url)) {
      const vertex = makeVertex(gitSource(url, this.#asked.gitAttributes), [], {
        name: `[internal] load git source ${url}`,
      });
      return { edge: { vertex, output: 0 } };
    }
    const file = sourceEdge(url, { 'http.filename': 'context' }, name);
    const { content } = this.#job.builder.parts;
    const text = await this.#job.look(file, async (root) =>
      (await archiveAt(content, root, 'context')) === undefined
        ? readTexts(root, ['context']).get('context')
        : undefined,
    );
    if (text !== undefined) return { edge: undefined, dockerfile: text };
    return { edge: { vertex: unpackVertex(file, 'context'), output: 0 } };
  }

  timeOf(edge: Edge | undefined, isRemote: boolean): Promise<number | undefined> {
    return timeOfSource(this.#job, edge, isRemote);
  }

  async context(): Promise<Edge | undefined> {
    const { contextUrl, contextDirectory } = this.#asked;
    if (contextUrl !== undefined) return this.#within((await (this.#remote ??= this.#openRemote(contextUrl))).edge);
    const input = this.#asked.inputs.get('context');
    if (input !== undefined) return input.edge;
    return this.#local(contextDirectory, '[internal] load build context', await this.#ignoreText());
  }

  /** The directory of a fetched context that was asked for. */
  #within(edge: Edge | undefined): Edge | undefined {
    const source = this.#asked.contextSubdirectory;
    if (source === '' || edge === undefined) return edge;
    const action: FileAction = { ...plainCopy, from: 0, source, target: '/', output: 0 };
    const name = `[internal] context ${source}`;
    return { vertex: makeVertex({ kind: 'file', actions: [action] }, [edge], { name }), output: 0 };
  }

  async ignored(): Promise<{ rules: IgnoreRules; patterns: string[] } | undefined> {
    if (this.#asked.contextUrl !== undefined || this.#asked.inputs.has('context')) return undefined;
    const patterns = ignorePatterns(await this.#ignoreText());
    return patterns.length === 0 ? undefined : { rules: createIgnoreRules(patterns), patterns };
  }

  async #ignoreText(): Promise<string> {
    return this.#ignore ?? (await (this.#contextIgnore ??= this.#loadIgnore()));
  }

  /** The ignore file of the context itself. */
  #loadIgnore(): Promise<string> {
    return this.#job.shown('[internal] load .dockerignore', async (line) => {
      const found = await this.#small(this.#asked.contextDirectory, ['.dockerignore'], line);
      return found.text('.dockerignore') ?? '';
    });
  }

  #local(directory: string, name: string, ignore: string): Edge {
    const session = this.#asked.sessions.get(directory);
    const exclude = ignorePatterns(ignore);
    const attributes = {
      'local.sharedkeyhint': directory,
      ...(exclude.length === 0 ? {} : { 'local.excludepatterns': JSON.stringify(exclude) }),
      ...(session === undefined ? {} : { 'local.session': session }),
    };
    const vertex = makeVertex({ kind: 'source', identifier: `local://${directory}`, attributes }, [], { name });
    this.#directories.add(vertex.digest);
    return { vertex, output: 0 };
  }

  imageConfig(image: Edge, _stage: Stage, name: string): Promise<ImageFile> {
    const { platform } = image.vertex;
    const isNamed = this.#asked.isMultiPlatform && platform !== undefined;
    const place = isNamed ? `[${formatPlatform(platform)} internal]` : '[internal]';
    return this.#imageConfig(image, place, name);
  }

  /** An image that several stages take is looked for, and shown, once. */
  #imageConfig(image: Edge, place: string, name: string): Promise<ImageFile> {
    const key = `${place} ${image.vertex.digest}`;
    const known = this.#configs.get(key);
    if (known !== undefined) return known;
    const config = this.#loadConfig(image, place, name);
    this.#configs.set(key, config);
    return config;
  }

  async #loadConfig(image: Edge, place: string, written: string): Promise<ImageFile> {
    const { op } = image.vertex;
    const name = op.kind === 'source' ? op.identifier.replace(/^docker-image:\/\//, '') : '';
    try {
      const resolve = (): Promise<ImageRecord> => this.#job.sources.image(image, 'resolve');
      return (await this.#job.shown(`${place} load metadata for ${name}`, resolve)).file;
    } catch (error) {
      if (!(error instanceof ApiError) || op.kind !== 'source') throw error;
      const why = error.message.startsWith(deniedImage) ? '' : `failed to resolve source metadata for ${name}: `;
      const told = new ApiError(error.reason, `${written}: ${why}${error.message}`);
      noteLocation(told, locationOf(error));
      throw told;
    }
  }

  named(name: string, platform: Platform): Promise<StageBase | undefined> {
    return this.#named.find(name, platform);
  }
}

/**
 * `inputs`: what the client gives, edges by name. `image`: the front end that the Dockerfile names in place of this
 * one.
 */
export async function buildDockerfile(
  job: Job,
  attributes: Readonly<Record<string, string>>,
  inputs: ReadonlyMap<string, Edge | undefined>,
): Promise<Result | { image: string; location: SourceLocation }> {
  checkCapabilities(attributes['frontend.caps'] ?? '');
  const asked = parseAttributes(attributes, inputs);
  job.pull = asked.pull;
  job.cache.addImports(asked.cacheImports);
  job.exec = asked.run;
  const made = await new DockerfileFrontend(job, asked).run();
  if (made.kind === 'image') return made;
  if (made.kind === 'answer') return { refs: new Map<string, Edge>(), metadata: made.metadata };
  const configOf = ({ file }: BuiltPlatform): Buffer => Buffer.from(JSON.stringify({ ...file, rootfs: undefined }));
  const platforms = made.built.map(({ platform, file }) => ({
    ID: formatPlatform(platform),
    Platform: asked.isMultiPlatform ? platform : platformOf(file),
  }));
  const metadata = new Map<string, Buffer>([[platformsKey, Buffer.from(JSON.stringify({ Platforms: platforms }))]]);
  const refs = new Map<string, Edge | undefined>();
  for (const built of made.built) {
    const id = asked.isMultiPlatform ? formatPlatform(built.platform) : '';
    refs.set(id, built.edge);
    job.noteScanned(built.edge, built.scanned);
    metadata.set(id === '' ? configKey : `${configKey}/${id}`, configOf(built));
  }
  const epochMs = made.built[0]?.createdAtMs;
  if (epochMs !== undefined) metadata.set(epochKey, Buffer.from(String(epochMs / 1000)));
  return { refs, metadata };
}
