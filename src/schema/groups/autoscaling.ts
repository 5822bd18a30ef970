/** autoscaling v2 (stored) and v1 (converted). */
import type * as v1 from '#api/autoscaling.v1.ts';
import type * as v2 from '#api/autoscaling.v2.ts';
import type { Draft } from '#api/manifest.ts';
import { scanJson } from '#base/json.ts';
import { kindOf, kinds } from '#base/kinds.ts';
import { isOf, type KubeObject, type OpenObject } from '#base/objects.ts';
import { itemsOf } from '#base/unknown.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind, statusSubresource } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateAutoscaler } from '../validate-autoscaler.ts';

const quantityPair = (current: string | undefined, target: string | undefined): string =>
  `${current ?? '<unknown>'}/${target ?? '<unset>'}`;

/** The source that a metric's type names, with its name where it is of containers, and what was measured of it. */
function metricText(spec: v2.MetricSpec, status: v2.MetricStatus | undefined): string {
  switch (spec.type) {
    case 'Resource':
      return valueText(spec.resource?.target, status?.resource?.current, `${spec.resource?.name}: `, '');
    case 'ContainerResource':
      return valueText(
        spec.containerResource?.target,
        status?.containerResource?.current,
        `${spec.containerResource?.name}: `,
        '',
      );
    case 'Pods':
      return valueText(spec.pods?.target, status?.pods?.current, '', '');
    case 'Object':
      return valueText(spec.object?.target, status?.object?.current, '', ' (avg)');
    case 'External':
      return valueText(spec.external?.target, status?.external?.current, '', ' (avg)');
    default:
      return '<unknown type>';
  }
}

function valueText(
  target: v2.MetricTarget | undefined,
  now: v2.MetricValueStatus | undefined,
  name: string,
  average: string,
): string {
  if (target?.averageUtilization !== undefined)
    return `${name}${now?.averageUtilization === undefined ? '<unknown>' : `${now.averageUtilization}%`}/${target.averageUtilization}%`;
  if (target?.averageValue !== undefined)
    return `${name}${quantityPair(now?.averageValue, target.averageValue)}${average}`;
  return `${name}${quantityPair(now?.value, target?.value)}`;
}

function targets(o: v2.HorizontalPodAutoscaler): string {
  const metrics = o.spec?.metrics ?? [];
  if (metrics.length === 0) return '<none>';
  const shown = metrics.slice(0, 2).map((m, i) => metricText(m, o.status?.currentMetrics?.[i]));
  return metrics.length > 2 ? `${shown.join(', ')} + ${metrics.length - 2} more...` : shown.join(', ');
}

const hpaColumns = columns<v2.HorizontalPodAutoscaler>(
  column('Reference', (o) => `${o.spec?.scaleTargetRef?.kind}/${o.spec?.scaleTargetRef?.name}`),
  column('Targets', targets),
  column('MinPods', (o) => String(o.spec?.minReplicas ?? '<unset>')),
  column('MaxPods', (o) => o.spec?.maxReplicas),
  column('Replicas', (o) => o.status?.currentReplicas ?? 0),
);

function defaultRules(rules: Draft<v2.HPAScalingRules>, policies: v2.HPAScalingPolicy[]): Draft<v2.HPAScalingRules> {
  setDefaultText(rules, 'selectPolicy', 'Max');
  rules.policies ??= policies;
  return rules;
}

function defaultBehavior(behavior: Draft<v2.HorizontalPodAutoscalerBehavior>): void {
  const up = defaultRules((behavior.scaleUp ??= {}), [
    { type: 'Pods', value: 4, periodSeconds: 15 },
    { type: 'Percent', value: 100, periodSeconds: 15 },
  ]);
  setDefault(up, 'stabilizationWindowSeconds', 0);
  defaultRules((behavior.scaleDown ??= {}), [{ type: 'Percent', value: 100, periodSeconds: 15 }]);
}

function defaultAutoscaler(o: Draft<v2.HorizontalPodAutoscaler>): void {
  const spec = (o.spec ??= {});
  setDefault(spec, 'minReplicas', 1);
  if ((spec.metrics ?? []).length === 0)
    spec.metrics = [
      { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } },
    ];
  if (spec.behavior) defaultBehavior(spec.behavior);
}

function toV1({ kind, metadata, spec, status }: v2.HorizontalPodAutoscaler): v1.HorizontalPodAutoscaler {
  const metrics = spec.metrics ?? [];
  const cpu = metrics.find(
    ({ type, resource }) =>
      type === 'Resource' && resource?.name === 'cpu' && resource.target.averageUtilization !== undefined,
  );
  const percentage = cpu?.resource?.target.averageUtilization;
  const current = status?.currentMetrics?.find(({ type, resource }) => type === 'Resource' && resource?.name === 'cpu')
    ?.resource?.current.averageUtilization;
  const rest = metrics.filter((metric) => metric !== cpu);
  const annotations = { ...metadata.annotations };
  if (rest.length > 0) annotations['autoscaling.alpha.kubernetes.io/metrics'] = JSON.stringify(rest);
  if (spec.behavior) annotations['autoscaling.alpha.kubernetes.io/behavior'] = JSON.stringify(spec.behavior);
  if (status?.conditions) annotations['autoscaling.alpha.kubernetes.io/conditions'] = JSON.stringify(status.conditions);
  return {
    apiVersion: 'autoscaling/v1',
    kind,
    metadata: Object.keys(annotations).length > 0 ? { ...metadata, annotations } : metadata,
    spec: {
      scaleTargetRef: spec.scaleTargetRef,
      ...(spec.minReplicas === undefined ? {} : { minReplicas: spec.minReplicas }),
      maxReplicas: spec.maxReplicas,
      ...(percentage === undefined ? {} : { targetCPUUtilizationPercentage: percentage }),
    },
    status: {
      ...(status?.observedGeneration === undefined ? {} : { observedGeneration: status.observedGeneration }),
      ...(status?.lastScaleTime ? { lastScaleTime: status.lastScaleTime } : {}),
      currentReplicas: status?.currentReplicas ?? 0,
      desiredReplicas: status?.desiredReplicas ?? 0,
      ...(current === undefined ? {} : { currentCPUUtilizationPercentage: current }),
    },
  };
}

/**
 * What an annotation holds for the newer version; a user may have written anything there, and what is no JSON says
 * nothing.
 */
function annotated(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    scanJson(text);
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Of what a client sent: any field may be missing, and the annotations may hold anything. */
function fromV1(o: Draft<v1.HorizontalPodAutoscaler> & KubeObject): OpenObject {
  const { targetCPUUtilizationPercentage: cpu, ...spec } = o.spec ?? {};
  const {
    'autoscaling.alpha.kubernetes.io/metrics': rest,
    'autoscaling.alpha.kubernetes.io/behavior': behavior,
    'autoscaling.alpha.kubernetes.io/conditions': conditions,
    ...annotations
  } = o.metadata.annotations ?? {};
  const metrics = [...itemsOf(annotated(rest))];
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
  hasGeneration: true,
  storage: {
    group: 'autoscaling',
    resource: 'horizontalpodautoscalers',
    version: 'v2',
    kind: 'HorizontalPodAutoscaler',
  },
  prepareCreate(o: Draft<v2.HorizontalPodAutoscaler>) {
    o.status = { desiredReplicas: 0 };
  },
  prepareUpdate: resetStatus,
};

const inV1 = kindOf<v2.HorizontalPodAutoscaler>(
  'autoscaling/v1',
  'horizontalpodautoscalers',
  'HorizontalPodAutoscaler',
);

const toNewer: NonNullable<KindRecord['toStored']> = fromV1;

export const autoscalingKinds: readonly KindRecord[] = [
  defineKind(kinds.HorizontalPodAutoscaler, {
    ...shared,
    columns: hpaColumns,
    defaults: defaultAutoscaler,
    validate: validateAutoscaler,
  }),
  defineKind(inV1, {
    ...shared,
    // What is shown is computed from the newer form.
    columns: hpaColumns.map((one) => ({
      ...one,
      value(o: KubeObject, now: number) {
        const newer = toNewer(o);
        return isOf(kinds.HorizontalPodAutoscaler, newer) ? one.value(newer, now) : undefined;
      },
    })),
    defaults: defaultAutoscaler,
    validate: validateAutoscaler,
    fromStored: toV1,
    toStored: fromV1,
  }),
];
