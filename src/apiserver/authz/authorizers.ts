/**
 * Which authorizers are asked, in which order (Kubernetes, "Authorization", `--authorization-mode`,
 * `AuthorizationConfiguration` of `apiserver.config.k8s.io`). A file's webhooks are taken up while the server runs; its
 * other authorizers stay as they were, as upstream has it, since RBAC must not come and go.
 */
import { ApiError } from '#base/errors.ts';
import { CompilationError, type Program } from '#cel/program.ts';
import { types } from '#cel/types.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { compileExpression } from '#schema/admission-expressions.ts';
import { expressionFunctions } from '#schema/format-library.ts';
import { subdomainProblem } from '#schema/name-forms.ts';
import { ConfigReader, type ConfigFields } from '../config-reader.ts';
import { followConfig } from '../follow-config.ts';
import { accessWebhookMs } from '../limits.ts';
import type { ServerFlags } from '../server-flags.ts';
import { serverOfKubeconfig } from '../webhook-kubeconfig.ts';
import { WebhookAuthorizer, type WebhookAuthorizerOptions } from './webhook-authorizer.ts';

const plainModes = ['AlwaysAllow', 'AlwaysDeny', 'Node', 'RBAC'] as const;
type PlainMode = (typeof plainModes)[number];

export type Authorizer = { mode: PlainMode } | { mode: 'Webhook'; webhook: WebhookAuthorizer };

interface WebhookConfig extends Omit<WebhookAuthorizerOptions, 'server' | 'clock' | 'log'> {
  file: string;
}
export type AuthorizerConfig = { mode: PlainMode } | { mode: 'Webhook'; config: WebhookConfig };

const group = 'apiserver.config.k8s.io';
const versions = ['v1', 'v1beta1', 'v1alpha1'].map((version) => `${group}/${version}`);
const minuteMs = 60_000;
const timeoutMsMax = 30_000;

/** Throws BadRequest. */
export function parseAuthorizationConfig(text: string, file: string): AuthorizerConfig[] {
  const reader = new ConfigReader(text, file, { apiVersion: versions, kind: 'AuthorizationConfiguration' });
  const top = reader.fields(reader.root, '', ['authorizers']);
  const authorizers = top.objects('authorizers');
  if (authorizers.length === 0) reader.required('authorizers', 'at least one authorization mode must be defined');
  const [seenTypes, seenNames] = [new Set<string>(), new Set<string>()];
  const read = authorizers.flatMap(([each, at]): AuthorizerConfig[] => {
    const fields = reader.fields(each, at, ['type', 'name', 'webhook']);
    const [type, name] = [fields.string('type'), fields.string('name')];
    const mode = plainModes.find((known) => known === type);
    if (type === '') reader.required(fields.at('type'));
    else if (mode === undefined && type !== 'Webhook')
      reader.unsupported(fields.at('type'), type, [...plainModes, 'Webhook']);
    if (type !== 'Webhook' && seenTypes.has(type)) reader.duplicate(fields.at('type'), type);
    seenTypes.add(type);
    if (name === '') reader.required(fields.at('name'));
    else if (seenNames.has(name)) reader.duplicate(fields.at('name'), name);
    else if (subdomainProblem(name) !== '')
      reader.invalid(fields.at('name'), name, `authorizer name is invalid: ${subdomainProblem(name)}`);
    seenNames.add(name);
    if (type !== 'Webhook') {
      if (fields.has('webhook'))
        reader.invalid(fields.at('webhook'), 'non-null', 'may only be specified when type=Webhook');
      return mode === undefined ? [] : [{ mode }];
    }
    const webhook = fields.object('webhook');
    if (webhook === undefined) {
      reader.required(fields.at('webhook'), 'required when type=Webhook');
      return [];
    }
    return [
      { mode: 'Webhook', config: readWebhook(webhookFields(reader, webhook, fields.at('webhook')), reader, name) },
    ];
  });
  reader.throwIfAny();
  return read;
}

const webhookFields = (
  reader: ConfigReader,
  webhook: Parameters<ConfigReader['fields']>[0],
  at: string,
): ConfigFields =>
  reader.fields(webhook, at, [
    'authorizedTTL',
    'cacheAuthorizedRequests',
    'unauthorizedTTL',
    'cacheUnauthorizedRequests',
    'timeout',
    'subjectAccessReviewVersion',
    'matchConditionSubjectAccessReviewVersion',
    'failurePolicy',
    'connectionInfo',
    'matchConditions',
  ]);

function readWebhook(fields: ConfigFields, reader: ConfigReader, name: string): WebhookConfig {
  const chosen = <T extends string>(field: string, choices: readonly T[]): T | undefined => {
    const value = fields.string(field);
    const found = choices.find((choice) => choice === value);
    if (value === '') reader.required(fields.at(field));
    else if (found === undefined) reader.unsupported(fields.at(field), value, choices);
    return found;
  };
  const version = chosen('subjectAccessReviewVersion', ['v1', 'v1beta1']);
  const failurePolicy = chosen('failurePolicy', ['NoOpinion', 'Deny']);
  const matchConditions = fields.objects('matchConditions').flatMap(([each, at]) => {
    const condition = reader.fields(each, at, ['expression']);
    return compiled(reader, condition.at('expression'), condition.string('expression'));
  });
  if (matchConditions.length > 0) chosen('matchConditionSubjectAccessReviewVersion', ['v1']);
  const timeoutMs = fields.duration('timeout');
  if (timeoutMs === undefined) reader.required(fields.at('timeout'));
  else if (timeoutMs <= 0 || timeoutMs > timeoutMsMax)
    reader.invalid(fields.at('timeout'), fields.string('timeout'), 'must be > 0s and <= 30s');
  return {
    name,
    file: readConnection(fields, reader),
    version: version ?? 'v1',
    failurePolicy: failurePolicy ?? 'Deny',
    timeoutMs: timeoutMs ?? accessWebhookMs,
    authorizedMs: cachedFor(fields, true, 5 * minuteMs),
    unauthorizedMs: cachedFor(fields, false, minuteMs / 2),
    matchConditions,
  };
}

function cachedFor(fields: ConfigFields, isAuthorized: boolean, otherwiseMs: number): number {
  if (fields.boolean(isAuthorized ? 'cacheAuthorizedRequests' : 'cacheUnauthorizedRequests') === false) return 0;
  return fields.duration(isAuthorized ? 'authorizedTTL' : 'unauthorizedTTL') ?? otherwiseMs;
}

function readConnection(fields: ConfigFields, reader: ConfigReader): string {
  const connection = reader.fields(fields.object('connectionInfo') ?? {}, fields.at('connectionInfo'), [
    'type',
    'kubeConfigFile',
  ]);
  const [type, file] = [connection.string('type'), connection.string('kubeConfigFile')];
  if (type === '') reader.required(connection.at('type'));
  else if (type !== 'KubeConfigFile') reader.unsupported(connection.at('type'), type, ['KubeConfigFile']);
  else if (file === '') reader.required(connection.at('kubeConfigFile'));
  else if (!file.startsWith('/')) reader.invalid(connection.at('kubeConfigFile'), file, 'must be an absolute path');
  return file;
}

function compiled(reader: ConfigReader, at: string, source: string): Program[] {
  if (source.trim() === '') {
    reader.required(at);
    return [];
  }
  try {
    const environment = { variables: new Map([['request', types.dyn]]), functions: expressionFunctions };
    return [compileExpression(source, environment, [types.bool, types.dyn])];
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    reader.invalid(at, source, error.message);
    return [];
  }
}

/** Whether flags say anything of authorizers. */
export const namesAuthorizers = (flags: ServerFlags): boolean =>
  ['authorization-config', 'authorization-mode', 'authorization-webhook-config-file'].some((flag) => flags.has(flag));

/** The modes that flags name. Throws BadRequest. */
export function authorizersOfFlags(flags: ServerFlags): AuthorizerConfig[] {
  const modes = flags.has('authorization-mode') ? flags.list('authorization-mode') : ['Node', 'RBAC'];
  const file = flags.text('authorization-webhook-config-file');
  const wrong = (text: string): ApiError => new ApiError('BadRequest', text);
  if (modes.length === 0) throw wrong('at least one authorization-mode must be passed');
  if (new Set(modes).size !== modes.length)
    throw wrong(`authorization-mode ${JSON.stringify(modes)} has mode specified more than once`);
  if (modes.includes('Webhook') !== (file !== ''))
    throw wrong(
      file === ''
        ? "authorization-mode Webhook's authorization config file not passed"
        : 'cannot specify --authorization-webhook-config-file without mode Webhook',
    );
  return modes.map((mode): AuthorizerConfig => {
    if (mode === 'Webhook') return { mode, config: webhookOfFlags(flags, file) };
    const plain = plainModes.find((known) => known === mode);
    if (plain === undefined) throw wrong(`authorization-mode ${JSON.stringify(mode)} is not a valid mode`);
    return { mode: plain };
  });
}

const webhookOfFlags = (flags: ServerFlags, file: string): WebhookConfig => ({
  name: 'webhook',
  file,
  version: flags.oneOf('authorization-webhook-version', ['v1beta1', 'v1']),
  failurePolicy: 'NoOpinion',
  timeoutMs: accessWebhookMs,
  authorizedMs: flags.duration('authorization-webhook-cache-authorized-ttl', 5 * minuteMs),
  unauthorizedMs: flags.duration('authorization-webhook-cache-unauthorized-ttl', minuteMs / 2),
  matchConditions: [],
});

export class Authorizers implements Disposable {
  #list: readonly Authorizer[] = [];
  readonly #stopFollowing: () => void;

  /** Throws BadRequest for what cannot be. */
  constructor(flags: ServerFlags, { clock, log }: { clock: Clock; log: Logger }) {
    const take = (configs: readonly AuthorizerConfig[]): void => {
      const before = this.#list;
      this.#list = configs.map((each): Authorizer => {
        if (each.mode !== 'Webhook') return each;
        const { file, ...config } = each.config;
        return {
          mode: 'Webhook',
          webhook: new WebhookAuthorizer({ ...config, server: serverOfKubeconfig(file), clock, log }),
        };
      });
      closeAll(before);
    };
    const file = flags.text('authorization-config');
    if (file !== '' && (flags.has('authorization-mode') || flags.has('authorization-webhook-config-file')))
      throw new ApiError(
        'BadRequest',
        '--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined',
      );
    if (file === '') {
      take(authorizersOfFlags(flags));
      this.#stopFollowing = () => undefined;
    } else {
      let first: string | undefined;
      this.#stopFollowing = followConfig(file, 'authorization-config', { clock, log }, (text) => {
        const configs = parseAuthorizationConfig(text, file);
        const plain = configs
          .map(({ mode }) => mode)
          .filter((mode) => mode !== 'Webhook')
          .join(',');
        first ??= plain;
        if (plain !== first)
          throw new ApiError(
            'BadRequest',
            `authorizers other than webhooks may not change while the server runs: ${plain}`,
          );
        take(configs);
      });
    }
  }

  get list(): readonly Authorizer[] {
    return this.#list;
  }

  [Symbol.dispose](): void {
    this.#stopFollowing();
    closeAll(this.#list);
  }
}

function closeAll(list: readonly Authorizer[]): void {
  for (const each of list) if (each.mode === 'Webhook') each.webhook.close();
}
