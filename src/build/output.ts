/**
 * What a build tells while it runs: which step of which stage begins, what its command prints, how it ended. The
 * classic builder makes text of it (`ClassicOutput`), BuildKit's clients get vertices (`grpc/progress.ts`).
 */

/** A stage as its output names it. */
export interface StageAbout {
  index: number;
  name: string | undefined;
  /** What it starts from, as written and expanded. */
  base: string;
  /** Instructions of the stage as they are written, the triggers of its base not among them. */
  instructions: readonly { keyword: string; original: string }[];
}

/** One stage's part. Steps follow each other. */
export interface StageOutput {
  /** A step begins. `text` is the instruction as it is written. */
  begin(keyword: string, text: string): void;
  /** The step was done before. */
  cached(): void;
  /** A command runs in this container, and has ended. */
  started(containerId: string): void;
  ended(containerId: string): void;
  log(bytes: Uint8Array): void;
  /** The base image left so many instructions for its children. */
  triggers(count: number): void;
  /** The step is through; the image that stands for it, '' when there is none yet. */
  end(imageId: string): void;
  /** Progress of a pull, in the form of the Engine API. */
  event(event: Record<string, unknown>): void;
  fail(error: unknown): void;
  /** Nothing more comes. */
  finish(): void;
}

export interface BuildOutput {
  stage(about: StageAbout): StageOutput;
}

/** The classic builder's text (`Step 1/4 : FROM …`). A stage's text is held back until those before it are through. */
export class ClassicOutput implements BuildOutput {
  readonly #emit: (event: Record<string, unknown>) => void;
  readonly #held: Record<string, unknown>[][] = [];
  readonly #done = new Set<number>();
  readonly #total: number;
  #current = 0;
  #steps = 0;

  constructor(total: number, emit: (event: Record<string, unknown>) => void) {
    this.#total = total;
    this.#emit = emit;
  }

  stage({ instructions }: StageAbout): StageOutput {
    const place = this.#held.length;
    this.#held.push([]);
    let step = this.#steps + 1;
    this.#steps += 1 + instructions.length;
    const event = (value: Record<string, unknown>): void => {
      if (place === this.#current) this.#emit(value);
      else this.#held[place]!.push(value);
    };
    const write = (text: string): void => event({ stream: text });
    return {
      event,
      begin: (_keyword, text) => write(`Step ${step++}/${this.#total} : ${text}\n`),
      cached: () => write(' ---> Using cache\n'),
      started: (id) => write(` ---> Running in ${id.slice(0, 12)}\n`),
      ended: (id) => write(` ---> Removed intermediate container ${id.slice(0, 12)}\n`),
      log: (bytes) => write(Buffer.from(bytes).toString('utf8')),
      triggers: (count) => write(`# Executing ${count} build trigger${count === 1 ? '' : 's'}\n`),
      end: (imageId) => write(` ---> ${imageId === '' ? '' : imageId.slice(7, 19)}\n`),
      fail: () => {},
      finish: () => this.#finish(place),
    };
  }

  #finish(place: number): void {
    this.#done.add(place);
    while (this.#done.has(this.#current)) {
      this.#current++;
      for (const event of this.#held[this.#current]?.splice(0) ?? []) this.#emit(event);
    }
  }
}
