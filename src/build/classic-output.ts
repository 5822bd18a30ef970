/** The classic builder's text (`Step 1/4 : FROM …`). A stage's text is held back until those before it are through. */
import type { JsonObject } from '#base/unknown.ts';
import { silentOutput } from './llb/output.ts';
import type { VertexOutput } from './llb/output.ts';

/** One stage's part. Steps follow each other. */
export interface StageOutput {
  /** A step begins. `text` is the instruction as it is written. */
  begin(text: string): void;
  /** The base image left so many instructions for its children. */
  triggers(count: number): void;
  /** The step was done before. */
  cached(): void;
  /** The step is through; the image that stands for it, '' when there is none yet. */
  end(imageId: string): void;
  /** Nothing more comes. */
  finish(): void;
  /** What the step's vertex tells. */
  vertex: VertexOutput;
}

export class ClassicOutput {
  readonly #emit: (event: JsonObject) => void;
  readonly #held: JsonObject[][] = [];
  readonly #done = new Set<number>();
  readonly #total: number;
  #current = 0;
  #steps = 0;

  constructor(total: number, emit: (event: JsonObject) => void) {
    this.#total = total;
    this.#emit = emit;
  }

  /** The next stage, of so many instructions. */
  stage(instructions: number): StageOutput {
    const place = this.#held.length;
    const held: JsonObject[] = [];
    this.#held.push(held);
    let step = this.#steps + 1;
    this.#steps += 1 + instructions;
    const event = (value: JsonObject): void => {
      if (place === this.#current) this.#emit(value);
      else held.push(value);
    };
    const write = (text: string): void => event({ stream: text });
    const cached = (): void => write(' ---> Using cache\n');
    return {
      begin: (text) => write(`Step ${step++}/${this.#total} : ${text}\n`),
      triggers: (count) => write(`# Executing ${count} build trigger${count === 1 ? '' : 's'}\n`),
      cached,
      end: (imageId) => write(` ---> ${imageId === '' ? '' : imageId.slice(7, 19)}\n`),
      finish: () => this.#finish(place),
      vertex: {
        ...silentOutput,
        event,
        cached,
        started: (id) => write(` ---> Running in ${id.slice(0, 12)}\n`),
        ended: (id) => write(` ---> Removed intermediate container ${id.slice(0, 12)}\n`),
        log: (bytes) => write(Buffer.from(bytes).toString('utf8')),
      },
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
