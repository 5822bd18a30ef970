/**
 * The image of a container: pull policy, back-off and the reasons users see while it is missing.
 * Rules: Kubernetes documentation, "Images / Image pull policy".
 */
import type { Pod } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { Engine, ImageSummary, RegistryCredential } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { imageBackOffInitialMs, imageBackOffMaxMs, imageErrorShownMs } from './limits.ts';
import type { ImageManager, ImageSource, PodApi } from './doors.ts';
import { Interruption } from './interruption.ts';

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

function pullPolicyOf(container: AnyContainer): string {
  if (container.imagePullPolicy) return container.imagePullPolicy;
  const last = String(container.image).split('/').at(-1)!;
  return !String(container.image).includes('@') && (!last.includes(':') || last.endsWith(':latest'))
    ? 'Always'
    : 'IfNotPresent';
}

/** `untilMs` on the monotonic clock, as is `nowMs` below: a clock that is set must not hold up a pull. */
export interface ImageBackOff {
  delayMs: number;
  untilMs: number;
  message: string;
}

type EventArguments = [type: 'Normal' | 'Warning', reason: string, message: string];
/** What to do about an image, with what to tell users; `wait` is thrown. */
export type ImagePlan = { events: EventArguments[] } & (
  | { action: 'use' | 'pull' }
  | { action: 'wait'; error: WaitingError }
);

/** Pure: `isPresent` on this node, `backOff` after a pull that failed. */
function planImage(
  container: AnyContainer,
  isPresent: boolean,
  backOff: ImageBackOff | undefined,
  nowMs: number,
): ImagePlan {
  const image = container.image ?? '';
  const policy = pullPolicyOf(container);
  if (isPresent && policy !== 'Always')
    return { action: 'use', events: [['Normal', 'Pulled', `Container image "${image}" already present on machine`]] };
  if (policy === 'Never') {
    const text = `Container image "${image}" is not present with pull policy of Never`;
    return {
      action: 'wait',
      events: [
        ['Warning', 'ErrImageNeverPull', text],
        ['Warning', 'Failed', 'Error: ErrImageNeverPull'],
      ],
      error: new WaitingError('ErrImageNeverPull', text),
    };
  }
  if (backOff !== undefined && nowMs < backOff.untilMs) {
    return {
      action: 'wait',
      events: [
        ['Normal', 'BackOff', `Back-off pulling image "${image}"`],
        ['Warning', 'Failed', 'Error: ImagePullBackOff'],
      ],
      error: new WaitingError(
        'ImagePullBackOff',
        `Back-off pulling image "${image}": ${backOff.message}`,
        backOff.untilMs - nowMs,
      ),
    };
  }
  return { action: 'pull', events: [['Normal', 'Pulling', `Pulling image "${image}"`]] };
}

function pulledEvent(image: string, tookMs: number, sizeBytes: number): EventArguments {
  const took = `${(tookMs / 1000).toFixed(3)}s`;
  return [
    'Normal',
    'Pulled',
    `Successfully pulled image "${image}" in ${took} (${took} including waiting). Image size: ${sizeBytes} bytes.`,
  ];
}

/**
 * After a pull that failed: the next back-off, what to tell users, and what the container waits for. Soon looked at
 * again, so that the waiting shows as ImagePullBackOff.
 */
function planFailedPull(
  image: string,
  message: string,
  before: ImageBackOff | undefined,
  nowMs: number,
): { backOff: ImageBackOff; events: EventArguments[]; error: WaitingError } {
  const delayMs = Math.min(imageBackOffMaxMs, before === undefined ? imageBackOffInitialMs : before.delayMs * 2);
  const text = `failed to pull image "${image}": ${message}`;
  return {
    backOff: { delayMs, untilMs: nowMs + delayMs, message: `ErrImagePull: ${text}` },
    events: [
      ['Warning', 'Failed', `Failed to pull image "${image}": ${message}`],
      ['Warning', 'Failed', 'Error: ErrImagePull'],
    ],
    error: new WaitingError('ErrImagePull', text, Math.min(delayMs, imageErrorShownMs)),
  };
}

function invalidImageName(image: string, problem: string): WaitingError {
  return new WaitingError(
    'InvalidImageName',
    `Failed to apply default image tag "${image}": couldn't parse image name "${image}": ${problem}`,
  );
}

/** Keeps the back-offs of a node's Pods: each Pod has its own for each image. */
export function createImageManager(options: { source: ImageSource; clock: Clock; tell: PodApi['tell'] }): ImageManager {
  const { source, clock, tell } = options;
  const backOffs = new Map<string, ImageBackOff>();

  return {
    async ensure(pod, container, interruption) {
      const image = container.image ?? '';
      let found: ImageSummary | undefined;
      try {
        found = source.find(pod, container);
      } catch (error) {
        if (!isReason(error, 'BadRequest', 'Invalid')) throw error;
        throw invalidImageName(image, messageOf(error));
      }
      const key = `${pod.metadata.uid}/${image}`;
      const backOff = backOffs.get(key);
      const plan = planImage(container, found !== undefined, backOff, clock.monotonic());
      for (const event of plan.events) tell({ pod, container: container.name }, ...event);
      if (plan.action === 'wait') throw plan.error;
      if (plan.action === 'use') return found!;
      const startedMs = clock.monotonic();
      try {
        const summary = await source.pull(pod, container, interruption.signal);
        backOffs.delete(key);
        tell(
          { pod, container: container.name },
          ...pulledEvent(image, clock.monotonic() - startedMs, summary.sizeBytes),
        );
        return summary;
      } catch (error) {
        interruption.throwIfDue();
        const message = error instanceof ApiError ? error.message : messageOf(error);
        const failed = planFailedPull(image, message, backOff, clock.monotonic());
        backOffs.set(key, failed.backOff);
        for (const event of failed.events) tell({ pod, container: container.name }, ...event);
        throw failed.error;
      }
    },
  };
}

/** A pull that several wait for; it ends when the last of them has left. */
interface SharedPull {
  done: Promise<ImageSummary>;
  stop: AbortController;
  waiting: number;
}

/** Images of the engine's; Pods that want one with the same credentials at the same time share its pull. */
export function createImageSource(options: {
  engine: Pick<Engine, 'images'>;
  credentials(pod: Pod, image: string): Promise<RegistryCredential[]>;
}): ImageSource {
  const { images } = options.engine;
  const pulls = new Map<string, SharedPull>();

  const pull = async (pod: Pod, image: string, signal: AbortSignal): Promise<ImageSummary> => {
    const credentials = await options.credentials(pod, image);
    let last: unknown;
    for (const credential of credentials.length === 0 ? [undefined] : credentials) {
      try {
        return await images.pull(image, {
          ...(credential === undefined ? {} : { credential }),
          signal,
          owner: 'kubelet',
        });
      } catch (error) {
        last = error;
      }
    }
    throw last;
  };
  const share = (pod: Pod, image: string): SharedPull => {
    const credentialKey = (pod.spec.imagePullSecrets ?? []).map((entry) => entry.name).join(',');
    const key = `${image} ${pod.metadata.namespace} ${credentialKey}`;
    const known = pulls.get(key);
    if (known !== undefined && !known.stop.signal.aborted) return known;
    const stop = new AbortController();
    const shared: SharedPull = { done: pull(pod, image, stop.signal), stop, waiting: 0 };
    pulls.set(key, shared);
    const forget = (): void => {
      if (pulls.get(key) === shared) pulls.delete(key);
    };
    shared.done.then(forget, forget);
    return shared;
  };

  return {
    // A name or a whole id: `image: b` is never the beginning of one.
    find: (_pod, container) => images.find(container.image ?? '', { isWhole: true }),
    async pull(pod, container, signal) {
      const shared = share(pod, container.image ?? '');
      shared.waiting++;
      const wait = new Interruption([]);
      const leave = (): void => wait.interrupt();
      signal.addEventListener('abort', leave, { once: true });
      try {
        if (signal.aborted) leave();
        return await wait.race(shared.done);
      } finally {
        signal.removeEventListener('abort', leave);
        if (--shared.waiting === 0) shared.stop.abort();
      }
    },
  };
}
