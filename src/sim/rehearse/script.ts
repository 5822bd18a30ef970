/**
 * What Pods do in a rehearsal. Their programs are not there; annotations of the Pod (or of its template) say what
 * matters of them:
 *
 *   rehearse.tiphys.io/ready-after  from a container's start to its readiness          (0)
 *   rehearse.tiphys.io/run-for how long a container runs, then ends by itself (30s where restartPolicy is not Always;
 *   for ever otherwise)
 *   rehearse.tiphys.io/stop-after how long it takes to end when it is told to (100ms; never beyond the grace period)
 *   rehearse.tiphys.io/fails        share of runs that end with exit code 1, `20%`     (0%)
 *
 * Images are pulled once per node, each in the time that `--slow-pull` says. Pods whose autoscaler looks at CPU use as
 * much as it aims at, so that it keeps what it has: nobody knows their load.
 */
import type { Deployment, StatefulSet } from '#api/apps.v1.ts';
import type { HorizontalPodAutoscaler } from '#api/autoscaling.v2.ts';
import type { Container, Pod } from '#api/core.v1.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { milliOf } from '#base/quantity.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, isObject } from '#base/unknown.ts';
import { durationMs } from '../duration.ts';
import type { ContainerContext, PodScript, ScriptRule } from '../pod-script.ts';
import { RehearsalError } from './types.ts';

const prefix = 'rehearse.tiphys.io/';
const durations = ['ready-after', 'run-for', 'stop-after'];
const defaultRunFor = '30s';

function shareOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)%$/.exec(text);
  if (match === null || Number(match[1]) > 100) throw new Error(`not a share: ${JSON.stringify(text)} (write 20%)`);
  return Number(match[1]) / 100;
}

/** Of a manifest that nobody has looked at: that annotations are texts, the API server says. */
function checkAnnotations(annotations: unknown): void {
  for (const [key, value] of isObject(annotations) ? Object.entries(annotations) : []) {
    if (!key.startsWith(prefix) || typeof value !== 'string') continue;
    const name = key.slice(prefix.length);
    if (durations.includes(name)) durationMs(value);
    else if (name === 'fails') shareOf(value);
    else
      throw new Error(
        `there is no annotation ${key} (known: ${[...durations, 'fails'].map((known) => prefix + known).join(', ')})`,
      );
  }
}

/** Refuses annotations that cannot be read, wherever a Pod's metadata is in the object. */
export function checkScript(object: KubeObject, origin: string): void {
  for (const path of [[], ['spec', 'template'], ['spec', 'jobTemplate', 'spec', 'template']]) {
    try {
      checkAnnotations(fieldOf(object, ...path, 'metadata', 'annotations'));
    } catch (error) {
      throw new RehearsalError(`${origin}: ${object.kind} ${object.metadata.name}: ${messageOf(error)}`);
    }
  }
}

/** Evenly spread over [0, 1), the same however often it is asked: from the Pod's uid, which the seed has chosen. */
function chanceOf(pod: Pod, attempt: number): number {
  const digits = pod.metadata.uid.replaceAll('-', '');
  const at = (attempt * 8) % 24;
  return ((parseInt(digits.slice(at, at + 6), 16) + attempt * 0x9e37) % 0x1000000) / 0x1000000;
}

/** Autoscalers' aims, as millicores per container of the Pods they look at. */
export interface Aim {
  namespace: string;
  selector: LabelSelector;
  cpuOf(container: Container | undefined, containers: number): number | undefined;
}

export function aimsOf(
  autoscalers: readonly HorizontalPodAutoscaler[],
  targets: readonly (Deployment | StatefulSet)[],
): Aim[] {
  return autoscalers.flatMap((autoscaler) => {
    const { scaleTargetRef, metrics = [] } = autoscaler.spec;
    const target = targets.find(
      ({ kind, metadata }) =>
        kind === scaleTargetRef.kind &&
        metadata.name === scaleTargetRef.name &&
        metadata.namespace === autoscaler.metadata.namespace,
    );
    const cpu = metrics
      .map((metric) => metric.resource ?? metric.containerResource)
      .find((resource) => resource?.name === 'cpu')?.target;
    if (target === undefined || cpu === undefined) return [];
    const cpuOf = (container: Container | undefined, containers: number): number | undefined =>
      cpu.averageUtilization === undefined
        ? milliOf(cpu.averageValue ?? cpu.value) / containers
        : (milliOf(container?.resources?.requests?.['cpu']) * cpu.averageUtilization) / 100;
    return [{ namespace: target.metadata.namespace, selector: target.spec.selector, cpuOf }];
  });
}

function usageOf({ pod, container }: ContainerContext, aims: readonly Aim[]): number | undefined {
  const aim = aims.find(
    ({ namespace, selector }) =>
      namespace === pod.metadata.namespace && matchesSelectorObject(selector, pod.metadata.labels),
  );
  const { containers } = pod.spec;
  return aim?.cpuOf(
    containers.find(({ name }) => name === container),
    containers.length,
  );
}

/** The one rule by which all Pods of a rehearsal live; `pullMs` for every image that is not on the node. */
export function scriptRule(pullMs: number, aims: () => readonly Aim[]): ScriptRule {
  return { script: (context) => scriptFor(context, pullMs, aims) };
}

function scriptFor(
  { pod, container, attempt }: ContainerContext,
  pullMs: number,
  aims: () => readonly Aim[],
): PodScript {
  const said = (name: string): string | undefined => pod.metadata.annotations?.[prefix + name];
  const isMain = pod.spec.containers.some(({ name }) => name === container);
  const runFor = said('run-for') ?? ((pod.spec.restartPolicy ?? 'Always') === 'Always' ? undefined : defaultRunFor);
  const [readyAfter, stopAfter, fails] = [said('ready-after'), said('stop-after'), said('fails')];
  return {
    ...(pullMs === 0 ? {} : { pullAfter: pullMs }),
    ...(readyAfter === undefined ? {} : { readyAfter }),
    ...(stopAfter === undefined ? {} : { stopAfter }),
    ...(runFor === undefined || !isMain
      ? {}
      : { exitAfter: runFor, exitCode: fails !== undefined && chanceOf(pod, attempt) < shareOf(fails) ? 1 : 0 }),
    cpu: (asked) => usageOf(asked, aims()) ?? 1,
  };
}
