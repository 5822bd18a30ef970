/** admissionregistration.k8s.io/v1. */
import type {
  MutatingWebhook,
  MutatingWebhookConfiguration,
  ValidatingAdmissionPolicy,
  ValidatingWebhookConfiguration,
} from '#api/admissionregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindOptions, KindRecord } from '../kind.ts';
import { column, columns, defineKind, statusSubresource } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateWebhooks } from '../validate-admission.ts';

const api = ['api-extensions'];

const status = { status: statusSubresource };

function defaultWebhooks(o: Draft<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>): void {
  const hooks: Draft<MutatingWebhook>[] = o.webhooks ?? [];
  for (const hook of hooks) {
    setDefaultText(hook, 'failurePolicy', 'Fail');
    setDefaultText(hook, 'matchPolicy', 'Equivalent');
    hook.namespaceSelector ??= {};
    hook.objectSelector ??= {};
    setDefault(hook, 'timeoutSeconds', 10);
    if (o.kind === 'MutatingWebhookConfiguration') setDefaultText(hook, 'reinvocationPolicy', 'Never');
    for (const rule of hook.rules ?? []) setDefaultText(rule, 'scope', '*');
    if (hook.clientConfig?.service) setDefault(hook.clientConfig.service, 'port', 443);
  }
}

function defaultAdmissionPolicy(o: Draft<ValidatingAdmissionPolicy>): void {
  const spec = (o.spec ??= {});
  setDefaultText(spec, 'failurePolicy', 'Fail');
  if (spec.matchConstraints) {
    const m = spec.matchConstraints;
    setDefaultText(m, 'matchPolicy', 'Equivalent');
    m.namespaceSelector ??= {};
    m.objectSelector ??= {};
    for (const r of m.resourceRules ?? []) setDefaultText(r, 'scope', '*');
  }
}

const webhookColumns = columns<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>(
  column('Webhooks', (o) => (o.webhooks ?? []).length, { type: 'integer' }),
);
const admission = <T extends KubeObject>(kind: KindRef<T>, options: KindOptions<NoInfer<T>>): KindRecord =>
  defineKind(kind, { categories: api, ...options });
export const admissionregistrationKinds: readonly KindRecord[] = [
  admission(kinds.MutatingWebhookConfiguration, {
    columns: webhookColumns,
    defaults: defaultWebhooks,
    hasGeneration: true,
    validate: validateWebhooks,
  }),
  admission(kinds.ValidatingAdmissionPolicy, {
    subresources: status,
    hasGeneration: true,
    defaults: defaultAdmissionPolicy,
    prepareUpdate: resetStatus,
    columns: columns(
      column('Validations', (o) => (o.spec?.validations ?? []).length, { type: 'integer' }),
      column('ParamKind', (o) =>
        o.spec?.paramKind ? `${o.spec.paramKind.apiVersion}/${o.spec.paramKind.kind}` : '<unset>',
      ),
    ),
  }),
  admission(kinds.ValidatingAdmissionPolicyBinding, {
    hasGeneration: true,
    columns: columns(
      column('PolicyName', (o) => o.spec?.policyName),
      column('ParamRef', (o) =>
        o.spec?.paramRef ? `${o.spec.paramRef.namespace ?? '*'}/${o.spec.paramRef.name ?? '*'}` : '<unset>',
      ),
    ),
  }),
  admission(kinds.ValidatingWebhookConfiguration, {
    columns: webhookColumns,
    defaults: defaultWebhooks,
    hasGeneration: true,
    validate: validateWebhooks,
  }),
];
