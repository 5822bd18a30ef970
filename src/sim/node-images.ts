/**
 * The images on a simulated node: what was pulled stays, and Pods that want an image that is on its way wait for the
 * one pull. Images survive a power cut; pulls on their way do not.
 */
import { createHash } from 'node:crypto';

interface Held {
  id: string;
  /** When the pull ends, by the cluster's clock. */ readyMs: number;
}

/** A name as image references are written: `[host[:port]/]path[:tag][@digest]`, path in lower case. */
const reference =
  /^(?:[\w.-]+(?::\d+)?\/)?[a-z0-9]+(?:(?:\.|__?|-+|\/)[a-z0-9]+)*(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,})?$/;
/** What a simulated image is said to weigh. */
export const imageSizeBytes = 100_000_000;

export class NodeImages {
  readonly #images = new Map<string, Held>();

  constructor(names: readonly string[]) {
    for (const name of names) this.#images.set(name, { id: idOf(name), readyMs: -Infinity });
  }

  isPresent(image: string, nowMs: number): boolean {
    const held = this.#images.get(image);
    return held !== undefined && held.readyMs <= nowMs;
  }

  idOf(image: string): string {
    return this.#images.get(image)?.id ?? idOf(image);
  }

  /** Begins a pull that takes `tookMs`, or joins one on its way. Answers the milliseconds until the image is there. */
  pull(image: string, tookMs: number, nowMs: number): number {
    const held = this.#images.get(image);
    if (held !== undefined && held.readyMs > nowMs) return held.readyMs - nowMs;
    this.#images.set(image, { id: held?.id ?? idOf(image), readyMs: nowMs + tookMs });
    return tookMs;
  }

  /** A pull has failed. */
  remove(image: string): void {
    this.#images.delete(image);
  }

  /** The machine went down. */
  forgetPulls(nowMs: number): void {
    for (const [name, { readyMs }] of this.#images) if (readyMs > nowMs) this.#images.delete(name);
  }

  /** Removes what no container needs, as a kubelet does first when its disk is full. */
  keepOnly(needed: ReadonlySet<string>): void {
    for (const name of [...this.#images.keys()]) if (!needed.has(name)) this.#images.delete(name);
  }

  names(nowMs: number): string[] {
    return [...this.#images].filter(([, { readyMs }]) => readyMs <= nowMs).map(([name]) => name);
  }
}

/** Why this is no name of an image; undefined when it is one. */
export function imageNameProblem(image: string): string | undefined {
  return reference.test(image) ? undefined : 'invalid reference format';
}

function idOf(image: string): string {
  return `sha256:${createHash('sha256').update(image).digest('hex')}`;
}
