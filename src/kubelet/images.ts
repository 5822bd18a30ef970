/**
 * The image of a container: pull policy, back-off and the reasons users see while it is missing.
 * Rules: Kubernetes documentation, "Images / Image pull policy".
 */
import { ApiError, isReason } from '#base/errors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import type { Engine, ImageSummary, RegistryCredential } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { imageBackOffInitialMs, imageBackOffMaxMs } from './limits.ts';
import type { PodEvents } from './pod-worker.ts';

/** A container cannot start yet; `reason` is what `kubectl get pods` shows. */
export class WaitingError extends Error {
  readonly reason: string;
  readonly retryAfterMs: number | undefined;
  constructor(reason: string, message: string, retryAfterMs?: number) {
    super(message);
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

export function pullPolicyOf(container: Json): string {
  if (container.imagePullPolicy) return container.imagePullPolicy;
  const last = String(container.image).split('/').at(-1)!;
  return !String(container.image).includes('@') && (!last.includes(':') || last.endsWith(':latest')) ? 'Always' : 'IfNotPresent';
}

export interface ImageManager {
  ensure(pod: KubeObject, container: Json, events: PodEvents, signal: AbortSignal): Promise<ImageSummary>;
}

interface BackOff { delayMs: number; untilMs: number; message: string }

export function createImageManager(options: { engine: Engine; clock: Clock; credentials(pod: KubeObject, image: string): Promise<RegistryCredential[]> }): ImageManager {
  const { engine, clock } = options;
  const backOffs = new Map<string, BackOff>();
  const pulls = new Map<string, Promise<ImageSummary>>();

  const pull = async (pod: KubeObject, image: string, signal: AbortSignal): Promise<ImageSummary> => {
    const credentials = await options.credentials(pod, image);
    let last: unknown;
    for (const credential of credentials.length === 0 ? [undefined] : credentials) {
      try {
        return await engine.images.pull(image, { ...(credential === undefined ? {} : { credential }), signal, owner: 'kubelet' });
      } catch (error) { last = error; }
    }
    throw last;
  };

  return {
    async ensure(pod, container, events, signal) {
      const image: string = container.image;
      const policy = pullPolicyOf(container);
      let found: ImageSummary | undefined;
      try {
        found = engine.images.find(image);
      } catch (error) {
        if (!isReason(error, 'BadRequest', 'Invalid')) throw error;
        throw new WaitingError('InvalidImageName', `Failed to apply default image tag "${image}": couldn't parse image name "${image}": ${(error as Error).message}`);
      }
      if (found !== undefined && policy !== 'Always') {
        events.event('Normal', 'Pulled', `Container image "${image}" already present on machine`, container.name);
        return found;
      }
      if (policy === 'Never') {
        events.event('Warning', 'ErrImageNeverPull', `Container image "${image}" is not present with pull policy of Never`, container.name);
        throw new WaitingError('ErrImageNeverPull', `Container image "${image}" is not present with pull policy of Never`);
      }
      const key = `${pod.metadata.uid}/${image}`;
      const backOff = backOffs.get(key);
      if (backOff !== undefined && clock.now() < backOff.untilMs) {
        events.event('Normal', 'BackOff', `Back-off pulling image "${image}"`, container.name);
        throw new WaitingError('ImagePullBackOff', `Back-off pulling image "${image}": ${backOff.message}`, backOff.untilMs - clock.now());
      }
      events.event('Normal', 'Pulling', `Pulling image "${image}"`, container.name);
      const startedMs = clock.monotonic();
      try {
        const credentialKey = (pod.spec.imagePullSecrets ?? []).map((entry: Json) => entry.name).join(',');
        const pullKey = `${image} ${pod.metadata.namespace} ${credentialKey}`;
        let pulling = pulls.get(pullKey);
        if (pulling === undefined) {
          pulling = pull(pod, image, signal).finally(() => pulls.delete(pullKey));
          pulls.set(pullKey, pulling);
        }
        const summary = await pulling;
        backOffs.delete(key);
        const took = `${((clock.monotonic() - startedMs) / 1000).toFixed(3)}s`;
        events.event('Normal', 'Pulled', `Successfully pulled image "${image}" in ${took} (${took} including waiting). Image size: ${summary.sizeBytes} bytes.`, container.name);
        return summary;
      } catch (error) {
        const message = error instanceof ApiError ? error.message : (error as Error).message;
        const delayMs = Math.min(imageBackOffMaxMs, backOff === undefined ? imageBackOffInitialMs : backOff.delayMs * 2);
        const text = `failed to pull image "${image}": ${message}`;
        backOffs.set(key, { delayMs, untilMs: clock.now() + delayMs, message: `ErrImagePull: ${text}` });
        events.event('Warning', 'Failed', `Failed to pull image "${image}": ${message}`, container.name);
        events.event('Warning', 'Failed', 'Error: ErrImagePull', container.name);
        throw new WaitingError('ErrImagePull', text, delayMs);
      }
    },
  };
}
