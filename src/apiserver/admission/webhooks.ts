/**
 * Admission webhooks (Kubernetes, "Dynamic Admission Control"): mutating ones in order of their configurations' names,
 * each seeing what the one before made; validating ones all at once. How a webhook is reached is the transport's
 * business (`server.callWebhook`); without one every call fails, and the webhook's failure policy decides.
 */
import { ApiError, reasonOf, type ErrorDetails } from '#base/errors.ts';
import { scanJson } from '#base/json.ts';
import { jsonPatch } from '#base/patch.ts';
import type { MutatingWebhook, ValidatingWebhook } from '#api/admissionregistration.v1.ts';
import type { KubeObject, StatusCause } from '#base/objects.ts';
import { fieldOf, isObject, itemsOf, namedTextsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import { CelError } from '#cel/values.ts';
import type { RequestContext } from '../context.ts';
import { forbiddenBy } from '../object-errors.ts';
import { adoptMade } from './adopt.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { conditionsHold, Evaluator } from './expressions.ts';
import { hookMatches } from './matching.ts';

type Hook = MutatingWebhook | ValidatingWebhook;
type EvaluatorOnce = () => Promise<Evaluator>;

/** What a webhook answers (AdmissionResponse of `admission.k8s.io/v1`); it is a stranger's, so all of it may lack. */
interface HookResponse {
  allowed: boolean;
  /** JSON Patch in Base64. */
  patch: string | undefined;
  message: string;
  reason: string;
  code: number;
  details: ErrorDetails | undefined;
  warnings: readonly unknown[];
  auditAnnotations: Readonly<Record<string, string>>;
}

function readResponse(response: unknown): HookResponse {
  const code = fieldOf(response, 'status', 'code');
  return {
    allowed: fieldOf(response, 'allowed') === true,
    patch: textOf(response, 'patch'),
    message: textOf(response, 'status', 'message') ?? '',
    reason: textOf(response, 'status', 'reason') ?? '',
    // As upstream: whatever it says, a denial is no success.
    code: typeof code === 'number' && code >= 400 && code < 600 ? code : 400,
    details: readDetails(fieldOf(response, 'status', 'details')),
    warnings: itemsOf(fieldOf(response, 'warnings')),
    auditAnnotations: namedTextsOf(fieldOf(response, 'auditAnnotations')),
  };
}

/** What of a stranger's details is what it should be. */
function readDetails(details: unknown): ErrorDetails | undefined {
  if (!isObject(details)) return undefined;
  const { name, group, kind, uid, retryAfterSeconds } = details;
  const causes = itemsOf(details.causes).map((cause): StatusCause => {
    const { reason, message, field } = isObject(cause) ? cause : {};
    return { ...texts({ reason, message, field }) };
  });
  return {
    ...texts({ name, group, kind, uid }),
    ...(causes.length > 0 ? { causes } : {}),
    ...(typeof retryAfterSeconds === 'number' ? { retryAfterSeconds } : {}),
  };
}

/** Those of the fields that are text. */
function texts(fields: JsonObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).filter((field): field is [string, string] => typeof field[1] === 'string'),
  );
}

/** Kinds that webhooks never see, so that a broken one can always be removed. */
const exempt = new Set(['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']);

/** Whether the webhook is to be asked: an error of its conditions is a failure of its own. */
async function isAsked(
  hook: Hook,
  context: RequestContext,
  attributes: AdmissionAttributes,
  evaluator: EvaluatorOnce,
): Promise<boolean> {
  if (!(await hookMatches(hook, context, attributes))) return false;
  if ((hook.matchConditions ?? []).length === 0) return true;
  try {
    return await conditionsHold(hook.matchConditions, await evaluator());
  } catch (error) {
    if (!(error instanceof CelError)) throw error;
    if (hook.failurePolicy === 'Ignore') return false;
    throw forbiddenBy(context, attributes.object.metadata.name ?? context.info.name, error.message);
  }
}

function reviewOf(context: RequestContext, attributes: AdmissionAttributes, uid: string): object {
  const { kind, info, user } = context;
  const isConnect = attributes.operation === 'CONNECT';
  const gvk = { group: kind.group, version: kind.version, kind: isConnect ? attributes.object.kind : kind.kind };
  const gvr = { group: kind.group, version: kind.version, resource: kind.resource };
  const shown = (o: KubeObject | undefined): KubeObject | null =>
    o === undefined ? null : kind.fromStored === undefined || isConnect ? o : kind.fromStored(o);
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid,
      kind: gvk,
      resource: gvr,
      requestKind: gvk,
      requestResource: gvr,
      ...(attributes.subresource === ''
        ? {}
        : { subResource: attributes.subresource, requestSubResource: attributes.subresource }),
      name: isConnect ? info.name : (attributes.object.metadata.name ?? info.name),
      ...(kind.namespaced ? { namespace: info.namespace } : {}),
      operation: attributes.operation,
      userInfo: {
        username: user.name,
        groups: user.groups,
        ...(user.uid === undefined ? {} : { uid: user.uid }),
        ...(user.extra === undefined ? {} : { extra: user.extra }),
      },
      object: attributes.operation === 'DELETE' ? null : shown(attributes.object),
      oldObject: shown(attributes.old),
      dryRun: attributes.dryRun,
      options: null,
    },
  };
}

function failed(hook: Hook, why: string): ApiError {
  return new ApiError(
    'InternalError',
    `Internal error occurred: failed calling webhook ${JSON.stringify(hook.name)}: failed to call webhook: ${why}`,
    { causes: [{ message: `failed calling webhook ${JSON.stringify(hook.name)}: failed to call webhook: ${why}` }] },
  );
}

/** The webhook's answer; undefined where it failed and its policy is to go on. */
async function call(
  context: RequestContext,
  hook: Hook,
  attributes: AdmissionAttributes,
): Promise<HookResponse | undefined> {
  const { server } = context;
  const uid = server.random.uuid();
  const review = reviewOf(context, attributes, uid);
  let why: string;
  try {
    if (attributes.dryRun && hook.sideEffects !== 'None' && hook.sideEffects !== 'NoneOnDryRun')
      throw new ApiError('BadRequest', `admission webhook ${JSON.stringify(hook.name)} does not support dry run`);
    if (server.callWebhook === undefined) throw new Error('no transport');
    const answer = await server.callWebhook(hook.clientConfig, review, (hook.timeoutSeconds ?? 10) * 1000);
    const response = fieldOf(answer, 'response');
    const answered = fieldOf(response, 'uid') ?? '';
    if (answered === uid) return readResponse(response);
    why = `received invalid webhook response: expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(answered)}`;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    why = messageOf(error);
  }
  if (hook.failurePolicy !== 'Ignore') throw failed(hook, why);
  server.log.warn('webhook failed and is ignored', { webhook: hook.name, why });
  return undefined;
}

function checkAllowed(context: RequestContext, hook: Hook, response: HookResponse): void {
  const { allowed, message, reason, code, details, warnings, auditAnnotations } = response;
  for (const [key, value] of Object.entries(auditAnnotations)) context.audit?.annotate(`${hook.name}/${key}`, value);
  for (const warning of warnings) context.warnings.push(String(warning));
  if (allowed) return;
  const why = message !== '' ? `: ${message}` : reason !== '' ? `: ${reason}` : ' without explanation';
  throw new ApiError(
    reason === '' ? 'Forbidden' : reasonOf(reason),
    `admission webhook ${JSON.stringify(hook.name)} denied the request${why}`,
    details,
    code,
  );
}

export async function admitMutatingWebhooks(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  if (exempt.has(context.kind.kind)) return;
  for (const hook of (await context.server.live.mutatingWebhooks.current()).in()) {
    if (!(await isAsked(hook, context, attributes, () => Evaluator.open(context, attributes)))) continue;
    const response = await call(context, hook, attributes);
    if (response === undefined) continue;
    checkAllowed(context, hook, response);
    // What a connection is for cannot be changed.
    if (response.patch === undefined || ['DELETE', 'CONNECT'].includes(attributes.operation)) continue;
    const { kind } = context;
    const shown = kind.fromStored === undefined ? attributes.object : kind.fromStored(attributes.object);
    const text = Buffer.from(response.patch, 'base64').toString();
    scanJson(text);
    const why = adoptMade(context, attributes, jsonPatch(shown, JSON.parse(text)));
    if (why !== undefined) throw failed(hook, `the patch ${why}`);
  }
}

export async function admitValidatingWebhooks(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  if (exempt.has(context.kind.kind)) return;
  const hooks = (await context.server.live.validatingWebhooks.current()).in();
  if (hooks.length === 0) return;
  let opened: Promise<Evaluator> | undefined;
  const evaluator = (): Promise<Evaluator> => (opened ??= Evaluator.open(context, attributes));
  await Promise.all(
    hooks.map(async (hook) => {
      if (!(await isAsked(hook, context, attributes, evaluator))) return;
      const response = await call(context, hook, attributes);
      if (response !== undefined) checkAllowed(context, hook, response);
    }),
  );
}
