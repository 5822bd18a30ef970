/**
 * Carries vertices out: inputs first and side by side, each vertex once, and nothing that was done before. What decides
 * that is the content of the inputs and what is done to it (`cache-keys.ts`), not the vertex's digest: a changed file
 * that a step does not read changes nothing.
 *
 * A failure stops the rest; all has ended before the error is told.
 */
import { ApiError } from '#base/errors.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { onceAborted } from '#base/streams.ts';
import type { CopyAction } from '#content/copy.ts';
import { treeKey } from '../cache-keys.ts';
import { solveDiff } from './diff.ts';
import { readNested } from './nested.ts';
import { execWork, runCommand } from './exec.ts';
import type { CommandRequest } from './exec.ts';
import { copyToLayer, fileWork } from './file.ts';
import { noteLocation, noteVertex } from './location.ts';
import { isAbsent, layersOf, present, scratch, silentOutput } from './output.ts';
import type { Output, StepLayer, VertexOutput } from './output.ts';
import { listVertices } from './vertex.ts';
import type { Edge, ExecOp, Vertex } from './vertex.ts';
import type { SolverBuild, SolverContext, SolverParts, TravelledResult, Work } from './work.ts';

interface Made extends TravelledResult {
  /** A further key of the work, by what it reads. */
  contentKey?: string;
}

interface Running {
  making: Promise<Made>;
  /** Of the build that makes it. */
  signal: AbortSignal;
}

const running = new Map<string, Running>();

/** A vertex that is carried out on these. */
interface Task {
  vertex: Vertex;
  inputs: Output[];
  output: VertexOutput;
  /** That its result is known elsewhere is enough. */
  canBeAbsent: boolean;
}

function outputsOf(work: Work, { layers, atMs }: Made): Output[] {
  return layers.map((layer, index) => ({
    kind: 'layers',
    steps: [...(work.below[index] ?? []), { layer, createdAtMs: atMs, about: work.about }],
  }));
}

/** undefined: it failed, or was only told of, which for another build says nothing. Who is given up waits no longer. */
function awaitMade({ making }: Running, signal: AbortSignal): Promise<Made | undefined> {
  return new Promise((resolve, reject) => {
    const forget = onceAborted(signal, () => reject(signal.reason));
    making
      .then(
        (made) => resolve(made.isAbsent === true ? undefined : made),
        () => resolve(undefined),
      )
      .finally(forget);
  });
}

export class Solver {
  readonly #context: SolverContext;
  readonly #made = new Map<string, Promise<Output[]>>();
  readonly #failed = new AbortController();

  constructor(parts: SolverParts, build: SolverBuild) {
    const signal = AbortSignal.any([build.signal, this.#failed.signal]);
    this.#context = { ...parts, build, signal, toSteps: (output) => this.#toSteps(output) };
  }

  /** What the edge stands for; undefined: nothing at all. Throws what failed first, when all has ended. */
  async solve(edge: Edge | undefined): Promise<Output> {
    try {
      // Inputs first, so that none is begun from within another.
      if (edge !== undefined) for (const vertex of listVertices(edge.vertex)) void this.#vertex(vertex);
      return await present(await this.#output(edge));
    } catch (error) {
      this.#failed.abort(error);
      await Promise.allSettled(this.#made.values());
      throw this.#failed.signal.reason;
    }
  }

  /** Layers of the edge, a client's directory packed into one. */
  async solveSteps(edge: Edge | undefined): Promise<readonly StepLayer[]> {
    return this.#toSteps(await this.solve(edge));
  }

  /** Runs a command on the edge's files; they stay as they are. */
  async command(op: ExecOp, edge: Edge, request: CommandRequest): Promise<void> {
    await runCommand(this.#context, op, await this.solve(edge), request);
  }

  async #output(edge: Edge | undefined): Promise<Output> {
    if (edge === undefined) return scratch;
    const outputs = await this.#vertex(edge.vertex);
    return outputs[edge.output] ?? scratch;
  }

  #vertex(vertex: Vertex): Promise<Output[]> {
    let made = this.#made.get(vertex.digest);
    if (made === undefined) {
      made = this.#carryOut(vertex);
      this.#made.set(vertex.digest, made);
      // Whoever waits for it hears of it; one failure ends all.
      made.catch((error: unknown) => this.#failed.abort(error));
    }
    return made;
  }

  async #carryOut(vertex: Vertex): Promise<Output[]> {
    return this.#carryOutOn(vertex, await Promise.all(vertex.inputs.map((edge) => this.#output(edge))), true);
  }

  /** `canBeAbsent`: that its result is known elsewhere is enough. */
  async #carryOutOn(vertex: Vertex, inputs: Output[], canBeAbsent: boolean): Promise<Output[]> {
    this.#context.signal.throwIfAborted();
    // Sources show themselves: an image is asked for its configuration before it is needed as files.
    const output = vertex.op.kind === 'source' ? silentOutput : this.#context.build.begin(vertex);
    try {
      const made = await this.#operate({ vertex, inputs, output, canBeAbsent });
      output.end();
      return made;
    } catch (error) {
      // What another step's failure stopped did not fail itself: clients show it so by these words.
      const isStopped = this.#failed.signal.aborted;
      if (!isStopped) noteLocation(error, vertex.location);
      if (!isStopped) noteVertex(error, vertex.digest);
      output.end(isStopped ? new ApiError('BadRequest', 'context canceled') : error);
      throw error;
    }
  }

  async #operate(task: Task): Promise<Output[]> {
    const { vertex, inputs } = task;
    const { op } = vertex;
    const context = this.#context;
    switch (op.kind) {
      case 'source': {
        const made = await context.build.sources.open(context, op, vertex);
        if (made.kind === 'layers') this.#hold(layersOf(made.steps));
        return [made];
      }
      case 'merge': {
        const merged = await Promise.all(inputs.map((input) => context.toSteps(input)));
        return this.#withMakers(task, [{ kind: 'layers', steps: merged.flat() }], inputs.some(isAbsent));
      }
      case 'build': {
        const steps = await context.toSteps(await present(inputs[op.input] ?? scratch));
        const edge = await readNested(context, op, steps);
        const { build, signal } = context;
        return [await new Solver(context, { ...build, depth: (build.depth ?? 0) + 1, signal }).solve(edge)];
      }
      case 'diff':
        return [await solveDiff(context, op, await Promise.all(inputs.map(present)))];
      case 'exec':
        return this.#workOn(task, (on) => execWork(context, vertex, op, on));
      default:
        return this.#workOn(task, (on) => fileWork(context, vertex, op, on));
    }
  }

  /** Outputs that are absent know how they are made. */
  #withMakers({ vertex, inputs }: Task, outputs: Output[], areAbsent: boolean): Output[] {
    if (!areAbsent) return outputs;
    const make = async (): Promise<Output[]> => {
      const key = `${vertex.digest} whole`;
      let made = this.#made.get(key);
      if (made === undefined) {
        made = Promise.all(inputs.map(present)).then((whole) => this.#carryOutOn(vertex, whole, false));
        this.#made.set(key, made);
        made.catch((error: unknown) => this.#failed.abort(error));
      }
      return made;
    };
    return outputs.map((output, at) => ({ ...output, make: async () => (await make())[at] ?? scratch }));
  }

  /** Inputs that are absent are made where the result is not known without them. */
  async #workOn(task: Task, prepare: (inputs: Output[]) => Promise<Work>): Promise<Output[]> {
    const { vertex, inputs, output } = task;
    const work = await prepare(inputs);
    if (!inputs.some(isAbsent)) return this.#work(task, work);
    const { travelling } = this.#context.build;
    const found = vertex.ignoresCache ? undefined : (this.#known(work) ?? (await travelling?.find(work)));
    if (found === undefined) {
      const whole = await Promise.all(inputs.map(present));
      return this.#work({ ...task, inputs: whole }, await prepare(whole));
    }
    output.cached();
    this.#note(work, found);
    // What it gave is here, what it stands on may not be.
    const isWhole = found.isAbsent !== true && !work.below.flat().some(({ layer }) => layer?.digest === '');
    if (isWhole) this.#hold(found.layers.filter((layer) => layer !== null));
    return this.#withMakers(task, outputsOf(work, found), !isWhole);
  }

  // walk image-build 4/6: a vertex on its inputs has a key of their content: the cache answers, or it is carried out.
  async #work(task: Task, work: Work): Promise<Output[]> {
    const { vertex, output } = task;
    while (!vertex.ignoresCache) {
      const other = running.get(work.key);
      let known = this.#known(work);
      if (known === undefined && other !== undefined) known = await awaitMade(other, this.#context.signal);
      if (known !== undefined) {
        this.#hold(known.layers.filter((layer) => layer !== null));
        this.#note(work, known);
        output.cached();
        return outputsOf(work, known);
      }
      // Whoever waited for a build that was given up looks again: one of them makes it, the others wait for that one.
      if (other?.signal.aborted !== true) break;
    }
    const making = this.#make(task, work);
    const own = { making, signal: this.#context.signal };
    running.set(work.key, own);
    try {
      const made = await making;
      this.#note(work, made);
      return this.#withMakers(task, outputsOf(work, made), made.isAbsent === true);
    } finally {
      if (running.get(work.key) === own) running.delete(work.key);
    }
  }

  /** Where looking it up takes a while, and then by carrying it out. */
  async #make({ vertex: { ignoresCache }, output, canBeAbsent }: Task, work: Work): Promise<Made> {
    const { cache, clock } = this.#context;
    let found: Made | undefined;
    let contentKey: string | undefined;
    if (!ignoresCache) {
      found = await this.#context.build.travelling?.find(work);
      if (found?.isAbsent === true && canBeAbsent) {
        output.cached();
        return found;
      }
      if (found?.isAbsent === true) found = undefined;
      contentKey = found === undefined ? await work.contentKey?.() : undefined;
      if (contentKey !== undefined) {
        // Equal files were copied before, out of other layers.
        const same = { ...work, key: contentKey };
        found = this.#known(same) ?? (await this.#travelled(same));
      }
      if (found !== undefined) output.cached();
    }
    const layers = found?.layers ?? (await work.run(output));
    this.#hold(layers.filter((layer) => layer !== null));
    const made: Made = {
      layers,
      atMs: found?.atMs ?? clock.now(),
      ...(contentKey === undefined ? {} : { contentKey }),
    };
    for (const key of [work.key, contentKey])
      if (key !== undefined) await cache.put(key, { ...made, about: work.about });
    return made;
  }

  /** What came whole from elsewhere. */
  async #travelled(work: Work): Promise<Made | undefined> {
    const found = await this.#context.build.travelling?.find(work);
    return found?.isAbsent === true ? undefined : found;
  }

  #note(work: Work, made: Made): void {
    const { travelling } = this.#context.build;
    travelling?.note(work, made);
    if (made.contentKey !== undefined) travelling?.note({ ...work, key: made.contentKey }, made);
  }

  #known({ key, outputs }: Work): Made | undefined {
    const found = this.#context.cache.get(key);
    return found !== undefined && found.layers.length >= outputs ? found : undefined;
  }

  #hold(layers: readonly ImageLayer[]): void {
    for (const layer of layers) {
      this.#context.build.hold.addBlob(layer.digest);
      this.#context.build.hold.addLayer(layer.diffId);
    }
  }

  async #toSteps(output: Output): Promise<readonly StepLayer[]> {
    if (output.kind === 'layers') return output.steps;
    const { cache, clock } = this.#context;
    const key = treeKey(output.tree);
    const known = cache.get(key);
    if (known !== undefined)
      return known.layers.map((layer) => ({ layer, createdAtMs: known.atMs, about: known.about }));
    const copy: CopyAction = {
      kind: 'copy',
      sourceRoot: await output.tree.directory(),
      sources: ['.'],
      target: '/',
      isDirectory: true,
      exclude: output.tree.ignored,
      owner: { uid: 0, gid: 0 },
      canLink: true,
    };
    const layer = await copyToLayer(this.#context, [], ({ finish }) => finish([copy]));
    if (layer !== null) this.#hold([layer]);
    const about = 'local directory';
    const atMs = clock.now();
    await cache.put(key, { layers: [layer], atMs, about });
    return [{ layer, createdAtMs: atMs, about }];
  }
}
