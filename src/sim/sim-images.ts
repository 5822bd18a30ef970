/**
 * The images of a simulated node, to its kubelet: as an engine's, and as where a container's image comes from. What is
 * on the node is `node-images.ts`; how long a pull takes, and that it fails, is the Pod's script.
 */
import type { AnyContainer } from '#kubelet/containers.ts';
import type { Pod } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { ImageConfig, ImageSummary } from '#engine/engine.ts';
import type { ImageSource, KubeletEngine } from '#kubelet/doors.ts';
import type { Clock, Random } from '#os/clock.ts';
import { durationMs } from './duration.ts';
import { imageNameProblem, imageSizeBytes, type NodeImages } from './node-images.ts';
import type { PodScript, Scripts } from './pod-script.ts';
import type { SimPod } from './sim-pod.ts';

/** Nobody knows what user an image runs as that is only a name: one that is not root. */
const config: ImageConfig = Object.freeze({
  user: '65532',
  env: [],
  entrypoint: [],
  command: [],
  workingDir: '',
  volumes: [],
  exposedPorts: [],
  stopSignal: '',
  labels: {},
});

export interface SimImagesOptions {
  images: NodeImages;
  clock: Clock;
  random: Random;
  scripts: Scripts;
  /** Each pull takes this long more. */
  pullDelayMs(): number;
  /** Why nothing can be written to the node's disk; undefined when it can. */
  diskProblem(): string | undefined;
  pods(): ReadonlyMap<string, SimPod>;
}

export class SimImages implements ImageSource {
  readonly #of: SimImagesOptions;
  readonly #summaries = new Map<string, ImageSummary>();

  constructor(options: SimImagesOptions) {
    this.#of = options;
  }

  #summary(image: string): ImageSummary {
    let found = this.#summaries.get(image);
    if (found === undefined) {
      const id = this.#of.images.idOf(image);
      found = {
        id,
        names: [image],
        digests: [],
        sizeBytes: imageSizeBytes,
        createdAtMs: 0,
        config,
        isCollectable: true,
      };
      this.#summaries.set(image, found);
    }
    return found;
  }

  #script(pod: Pod, { name }: AnyContainer): PodScript {
    const { clock, random, scripts, pods } = this.#of;
    const attempt = pods().get(pod.metadata.uid)?.nextAttempt(name) ?? 0;
    return scripts.of({ pod, container: name, attempt, nowMs: clock.now(), random });
  }

  find(pod: Pod, container: AnyContainer): ImageSummary | undefined {
    const image = container.image ?? '';
    const problem = imageNameProblem(image);
    if (problem !== undefined) throw new ApiError('BadRequest', problem);
    if (!this.#of.images.isPresent(image, this.#of.clock.now())) return undefined;
    return this.#script(pod, container).imagePullFails === true ? undefined : this.#summary(image);
  }

  async pull(pod: Pod, container: AnyContainer, signal: AbortSignal): Promise<ImageSummary> {
    const { images, clock, pullDelayMs, diskProblem } = this.#of;
    const image = container.image ?? '';
    const { imagePullFails = false, pullAfter = 0 } = this.#script(pod, container);
    const isPresent = images.isPresent(image, clock.now());
    let tookMs = pullDelayMs() + (isPresent ? 0 : durationMs(pullAfter));
    if (!isPresent && !imagePullFails) tookMs = images.pull(image, tookMs, clock.now());
    if (tookMs > 0) await clock.sleep(tookMs, signal);
    if (imagePullFails) throw new ApiError('NotFound', 'not found');
    const problem = isPresent ? undefined : diskProblem();
    if (problem === undefined) return this.#summary(image);
    images.remove(image);
    throw new Error(problem);
  }

  list(): ImageSummary[] {
    const needed = new Set<string>();
    for (const { pod, containers } of this.#of.pods().values()) {
      const { phase } = pod.status ?? {};
      if (phase === 'Succeeded' || phase === 'Failed') continue;
      for (const { image } of pod.spec.containers) needed.add(image ?? '');
      for (const { image } of pod.spec.initContainers ?? []) needed.add(image ?? '');
      for (const { image } of containers) needed.add(image ?? '');
    }
    return this.#of.images.names(this.#of.clock.now()).map((image) => ({
      ...this.#summary(image),
      isCollectable: !needed.has(image),
    }));
  }

  remove: KubeletEngine['images']['remove'] = async (reference) => {
    for (const [image, { id }] of this.#summaries) if (id === reference) this.#of.images.remove(image);
    return { untagged: [], deleted: [reference] };
  };

  /** A Pod's need shows in its specification. */
  lease = async (): Promise<void> => undefined;
  releaseLease = async (): Promise<void> => undefined;

  forgetPulls(): void {
    this.#of.images.forgetPulls(this.#of.clock.now());
  }
}
