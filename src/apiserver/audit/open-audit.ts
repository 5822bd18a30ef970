/** Auditing as the flags ask for it: the policy, and the backends that are open. */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import type { Counter, Family, Metrics } from '#observe/metrics.ts';
import type { Clock } from '#os/clock.ts';
import { RotatingFile } from '#os/rotating-file.ts';
import { auditLogBytesDefault, auditWebhookMs, auditWebhookTriesMax } from '../limits.ts';
import { readConfig } from '../read-config.ts';
import type { ServerFlags } from '../server-flags.ts';
import { askAgain, serverOfKubeconfig } from '../webhook-kubeconfig.ts';
import type { AuditBackend } from './auditor.ts';
import { BatchBackend, blockingLog, type BatchOptions } from './backends.ts';
import { LogWriter, type LineSink } from './log-backend.ts';
import { parseAuditPolicy, type AuditPolicy } from './policy.ts';

const dayMs = 24 * 60 * 60_000;
const megabyte = 1024 * 1024;

export interface OpenAuditOptions {
  flags: ServerFlags;
  clock: Clock;
  log: Logger;
  metrics: Metrics;
  /** Where `-` leads. */
  standardOutput: (lines: string) => void;
}

export interface OpenAudit {
  policy: AuditPolicy;
  backends: AuditBackend[];
}

/** Undefined where nothing is asked for. Throws BadRequest for what cannot be. */
export function openAudit(options: OpenAuditOptions): OpenAudit | undefined {
  const { flags, metrics } = options;
  const file = flags.text('audit-policy-file');
  const wantsLog = flags.text('audit-log-path') !== '';
  const wantsWebhook = flags.text('audit-webhook-config-file') !== '';
  if (file === '') {
    if (wantsLog || wantsWebhook)
      options.log.warn('no audit policy file is given: no events are recorded for the audit backends');
    return undefined;
  }
  const policy = parseAuditPolicy(readConfig(file, 'audit-policy-file'), file);
  if (!wantsLog && !wantsWebhook) options.log.warn('an audit policy is given, but no backend');
  const errors = metrics.counter({
    name: 'apiserver_audit_error_total',
    help: 'Audit events that were lost, by the plugin that lost them.',
    labels: ['plugin'],
  });
  const backends: AuditBackend[] = [];
  if (wantsLog) backends.push(openLog(options, errors));
  if (wantsWebhook) backends.push(openWebhook(options, errors));
  return { policy, backends };
}

function batchOf(flags: ServerFlags, backend: 'log' | 'webhook'): BatchOptions {
  const name = (flag: string): string => `audit-${backend}-batch-${flag}`;
  const isWebhook = backend === 'webhook';
  return {
    bufferSize: flags.number(name('buffer-size'), 10_000),
    sizeMax: Math.max(1, flags.number(name('max-size'), isWebhook ? 400 : 1)),
    waitMs: flags.duration(name('max-wait'), isWebhook ? 30_000 : 0),
    throttle: flags.boolean(name('throttle-enable'), isWebhook)
      ? {
          perSecond: flags.number(name('throttle-qps'), isWebhook ? 10 : 0) || 1,
          burst: flags.number(name('throttle-burst'), isWebhook ? 15 : 0) || 1,
        }
      : undefined,
  };
}

function openLog({ flags, clock, log, standardOutput }: OpenAuditOptions, errors: Family<Counter>): AuditBackend {
  const path = flags.text('audit-log-path');
  const format = flags.oneOf('audit-log-format', ['json', 'legacy']);
  const mode = flags.oneOf('audit-log-mode', ['blocking', 'batch', 'blocking-strict']);
  const writer = new LogWriter({ sink: sinkOf(path, { flags, clock, standardOutput }), format, log, errors });
  if (mode !== 'batch') return blockingLog(writer, mode === 'blocking-strict');
  return new BatchBackend({
    name: writer.name,
    batch: batchOf(flags, 'log'),
    send: async (events) => void writer.write(events),
    close: () => writer.close(),
    clock,
    log,
    errors,
  });
}

function sinkOf(
  path: string,
  { flags, clock, standardOutput }: Pick<OpenAuditOptions, 'flags' | 'clock' | 'standardOutput'>,
): LineSink {
  if (path === '-') return { write: standardOutput, close: () => undefined };
  if (!path.startsWith('/')) throw new ApiError('BadRequest', `--audit-log-path must be absolute: ${path}`);
  try {
    return new RotatingFile({
      path,
      bytesMax: flags.number('audit-log-maxsize', 0) * megabyte || auditLogBytesDefault,
      backupsMax: flags.number('audit-log-maxbackup', 0),
      ageMsMax: flags.number('audit-log-maxage', 0) * dayMs,
      now: () => clock.now(),
    });
  } catch (error) {
    throw new ApiError('BadRequest', `--audit-log-path: ${messageOf(error)}`);
  }
}

function openWebhook({ flags, clock, log }: OpenAuditOptions, errors: Family<Counter>): AuditBackend {
  const mode = flags.oneOf('audit-webhook-mode', ['batch', 'blocking', 'blocking-strict']);
  // A request that waits for another server with each event would wait in everybody's way.
  if (mode !== 'batch')
    throw new ApiError('BadRequest', `--audit-webhook-mode=${mode} is not supported: the webhook is sent batches`);
  const server = serverOfKubeconfig(flags.text('audit-webhook-config-file'));
  const firstMs = flags.duration('audit-webhook-initial-backoff', 10_000);
  return new BatchBackend({
    name: 'webhook',
    batch: batchOf(flags, 'webhook'),
    send: async (items) => {
      const list = { kind: 'EventList', apiVersion: 'audit.k8s.io/v1', metadata: {}, items };
      await askAgain(
        (ms) => clock.sleep(ms),
        { attempts: auditWebhookTriesMax, firstMs },
        () => server.ask(list, auditWebhookMs),
      );
    },
    close: () => server.close(),
    clock,
    log,
    errors,
  });
}
