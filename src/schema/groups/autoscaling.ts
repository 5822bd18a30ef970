/** autoscaling v2 (stored) and v1 (converted). */
import { scanJson } from '#base/json.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import { column, columns, defineKind, statusSubresource } from '../kind.ts';
import type { Column, KindRecord } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateAutoscaler } from '../validate-autoscaler.ts';

const quantityPair = (current: string | undefined, target: string | undefined): string =>
  `${current ?? '<unknown>'}/${target ?? '<unset>'}`;

function metricText(spec: Json, current: Json): string {
  const key = (
    {
      Resource: 'resource',
      ContainerResource: 'containerResource',
      Pods: 'pods',
      Object: 'object',
      External: 'external',
    } as Record<string, string>
  )[spec.type];
  if (key === undefined) return '<unknown type>';
  const target = spec[key]?.target ?? {};
  const now = current?.[key]?.current ?? {};
  const name = key === 'resource' || key === 'containerResource' ? `${spec[key]?.name}: ` : '';
  if (target.averageUtilization !== undefined)
    return `${name}${now.averageUtilization === undefined ? '<unknown>' : `${now.averageUtilization}%`}/${target.averageUtilization}%`;
  if (target.averageValue !== undefined)
    return `${name}${quantityPair(now.averageValue, target.averageValue)}${key === 'object' || key === 'external' ? ' (avg)' : ''}`;
  return `${name}${quantityPair(now.value, target.value)}`;
}

function targets(o: Json): string {
  const metrics: Json[] = o.spec?.metrics ?? [];
  if (metrics.length === 0) return '<none>';
  const shown = metrics.slice(0, 2).map((m, i) => metricText(m, o.status?.currentMetrics?.[i]));
  return metrics.length > 2 ? `${shown.join(', ')} + ${metrics.length - 2} more...` : shown.join(', ');
}

const hpaColumns: readonly Column[] = columns(
  column('Reference', (o) => `${o.spec?.scaleTargetRef?.kind}/${o.spec?.scaleTargetRef?.name}`),
  column('Targets', targets),
  column('MinPods', (o) => String(o.spec?.minReplicas ?? '<unset>')),
  column('MaxPods', (o) => o.spec?.maxReplicas),
  column('Replicas', (o) => o.status?.currentReplicas ?? 0),
);

function defaultBehavior(behavior: Json): void {
  const rules = (direction: string, policies: Json[], select: string): void => {
    const set = (behavior[direction] ??= {});
    setDefaultText(set, 'selectPolicy', select);
    if (set.policies === undefined) set.policies = policies;
  };
  rules(
    'scaleUp',
    [
      { type: 'Pods', value: 4, periodSeconds: 15 },
      { type: 'Percent', value: 100, periodSeconds: 15 },
    ],
    'Max',
  );
  setDefault(behavior.scaleUp, 'stabilizationWindowSeconds', 0);
  rules('scaleDown', [{ type: 'Percent', value: 100, periodSeconds: 15 }], 'Max');
}

function defaultAutoscaler(o: Json): void {
  const spec = (o.spec ??= {});
  setDefault(spec, 'minReplicas', 1);
  if ((spec.metrics ?? []).length === 0)
    spec.metrics = [
      { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } },
    ];
  if (spec.behavior) defaultBehavior(spec.behavior);
}

function toV1(o: KubeObject): KubeObject {
  const spec = o.spec ?? {};
  const cpu = (spec.metrics ?? []).find(
    (m: Json) =>
      m.type === 'Resource' && m.resource?.name === 'cpu' && m.resource.target?.averageUtilization !== undefined,
  );
  const now = (o.status?.currentMetrics ?? []).find((m: Json) => m.type === 'Resource' && m.resource?.name === 'cpu');
  const rest = (spec.metrics ?? []).filter((m: Json) => m !== cpu);
  const annotations = { ...o.metadata.annotations };
  if (rest.length > 0) annotations['autoscaling.alpha.kubernetes.io/metrics'] = JSON.stringify(rest);
  if (spec.behavior) annotations['autoscaling.alpha.kubernetes.io/behavior'] = JSON.stringify(spec.behavior);
  if (o.status?.conditions)
    annotations['autoscaling.alpha.kubernetes.io/conditions'] = JSON.stringify(o.status.conditions);
  const status = {
    ...(o.status?.observedGeneration === undefined ? {} : { observedGeneration: o.status.observedGeneration }),
    ...(o.status?.lastScaleTime ? { lastScaleTime: o.status.lastScaleTime } : {}),
    currentReplicas: o.status?.currentReplicas ?? 0,
    desiredReplicas: o.status?.desiredReplicas ?? 0,
    ...(now?.resource?.current?.averageUtilization === undefined
      ? {}
      : { currentCPUUtilizationPercentage: now.resource.current.averageUtilization }),
  };
  return {
    apiVersion: 'autoscaling/v1',
    kind: o.kind,
    metadata: Object.keys(annotations).length > 0 ? { ...o.metadata, annotations } : o.metadata,
    spec: {
      scaleTargetRef: spec.scaleTargetRef,
      ...(spec.minReplicas === undefined ? {} : { minReplicas: spec.minReplicas }),
      maxReplicas: spec.maxReplicas,
      ...(cpu === undefined ? {} : { targetCPUUtilizationPercentage: cpu.resource.target.averageUtilization }),
    },
    status,
  };
}

/**
 * What an annotation holds for the newer version; a user may have written anything there, and what is no JSON says
 * nothing.
 */
function annotated(text: string | undefined): Json {
  if (text === undefined) return undefined;
  try {
    scanJson(text);
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function fromV1(o: KubeObject): KubeObject {
  const { targetCPUUtilizationPercentage: cpu, ...spec } = o.spec ?? {};
  const {
    'autoscaling.alpha.kubernetes.io/metrics': rest,
    'autoscaling.alpha.kubernetes.io/behavior': behavior,
    'autoscaling.alpha.kubernetes.io/conditions': conditions,
    ...annotations
  } = o.metadata.annotations ?? {};
  const more = annotated(rest);
  const metrics: Json[] = Array.isArray(more) ? [...more] : [];
  if (cpu !== undefined)
    metrics.push({
      type: 'Resource',
      resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: cpu } },
    });
  const { currentCPUUtilizationPercentage: now, ...status } = o.status ?? {};
  const currentMetrics =
    now === undefined ? [] : [{ type: 'Resource', resource: { name: 'cpu', current: { averageUtilization: now } } }];
  return {
    apiVersion: 'autoscaling/v2',
    kind: o.kind,
    metadata: { ...o.metadata, ...(o.metadata.annotations === undefined ? {} : { annotations }) },
    spec: {
      ...spec,
      ...(metrics.length > 0 ? { metrics } : {}),
      ...(annotated(behavior) === undefined ? {} : { behavior: annotated(behavior) }),
    },
    ...(o.status === undefined
      ? {}
      : {
          status: {
            ...status,
            ...(currentMetrics.length > 0 ? { currentMetrics } : {}),
            ...(annotated(conditions) === undefined ? {} : { conditions: annotated(conditions) }),
          },
        }),
  };
}

const shared = {
  shortNames: ['hpa'],
  categories: ['all'],
  subresources: { status: statusSubresource },
  hasGeneration: false,
  storage: {
    group: 'autoscaling',
    resource: 'horizontalpodautoscalers',
    version: 'v2',
    kind: 'HorizontalPodAutoscaler',
  },
  prepareCreate(o: Json) {
    o.status = { currentReplicas: 0, desiredReplicas: 0 };
  },
  prepareUpdate: resetStatus,
};

export const autoscalingKinds: readonly KindRecord[] = [
  defineKind('autoscaling', 'v2', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers', {
    ...shared,
    columns: hpaColumns,
    defaults: defaultAutoscaler,
    validate: validateAutoscaler,
  }),
  defineKind('autoscaling', 'v1', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers', {
    ...shared,
    columns: hpaColumns,
    defaults: defaultAutoscaler,
    validate: validateAutoscaler,
    fromStored: toV1,
    toStored: fromV1,
  }),
];
