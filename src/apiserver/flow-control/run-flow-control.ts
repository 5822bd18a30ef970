/**
 * Keeps flow control in line with its objects: what is written holds in the next request, and each FlowSchema's status
 * says whether its priority level is there.
 */
import type { FlowSchema, FlowSchemaCondition } from '#api/flowcontrol.v1.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { timestamp } from '#base/timestamp.ts';
import type { Server } from '../context.ts';
import { internalContext } from '../internal.ts';
import { flowControlKeepMs } from '../limits.ts';
import { applyObject } from '../apply.ts';
import { keepFlowControlObjects } from './keep-objects.ts';

/** From now on; answers how to stop. */
export async function runFlowControl(server: Server): Promise<() => void> {
  const { live, flowControl, clock, log } = server;
  let [stopped, due] = [false, false];
  let looking: Promise<void> | undefined;
  let timer = { cancel(): void {} };
  const lookOnce = async (): Promise<void> => {
    try {
      while (due && !stopped) {
        due = false;
        const levels = (await live.priorityLevels.current()).in().map(({ object }) => object);
        const schemas = (await live.flowSchemas.current()).in().map(({ object }) => object);
        flowControl.configure(levels, schemas);
        const names = new Set(levels.map(({ metadata }) => metadata.name));
        await Promise.all(schemas.map((schema) => tellStatus(server, schema, names)));
      }
    } catch (error) {
      if (!stopped) log.warn('flow control is behind', { error });
    }
  };
  const look = (): Promise<void> =>
    (looking ??= lookOnce().finally(() => {
      looking = undefined;
    }));
  const keepSoon = (): void => {
    timer.cancel();
    timer = clock.setTimer(
      flowControlKeepMs,
      () => {
        keepFlowControlObjects(server).catch((error: unknown) => {
          if (stopped) return;
          log.warn('flow control objects were not put back', { error });
          keepSoon();
        });
      },
      { background: true },
    );
  };
  const changed = (): void => {
    due = true;
    if (stopped) return;
    keepSoon();
    void look();
  };
  live.priorityLevels.subscribe(changed);
  live.flowSchemas.subscribe(changed);
  await keepFlowControlObjects(server);
  await look();
  for (const view of [live.priorityLevels, live.flowSchemas])
    view.follow().catch((error: unknown) => log.error('flow control follows its objects no more', { error }));
  return () => {
    stopped = true;
    timer.cancel();
  };
}

/** As upstream names what applies it. */
const statusManager = 'api-priority-and-fairness-config-consumer-v1';

async function tellStatus(server: Server, schema: FlowSchema, levels: ReadonlySet<string>): Promise<void> {
  const level = schema.spec.priorityLevelConfiguration.name;
  const isThere = levels.has(level);
  const wanted = {
    type: 'Dangling',
    status: isThere ? 'False' : 'True',
    reason: isThere ? 'Found' : 'NotFound',
    message: `This FlowSchema references the PriorityLevelConfiguration object named ${JSON.stringify(level)} ${
      isThere ? 'and it exists' : 'but there is no such object'
    }`,
  };
  if (says(schema, wanted)) return;
  const { name } = schema.metadata;
  const kind = server.kinds.builtIn(kinds.FlowSchema);
  const context = internalContext(server, kind, { verb: 'patch', name, subresource: 'status' });
  const lastTransitionTime = timestamp(server.clock.now());
  context.request = {
    ...context.request,
    query: new URLSearchParams({ fieldManager: statusManager, force: 'true' }),
    object: {
      apiVersion: schema.apiVersion,
      kind: schema.kind,
      metadata: { name },
      status: { conditions: [{ ...wanted, lastTransitionTime }] },
    },
  };
  try {
    await applyObject(context, {});
  } catch (error) {
    if (!isReason(error, 'NotFound')) throw error; // it is gone, and that will be told
  }
}

function says({ status }: FlowSchema, wanted: Omit<FlowSchemaCondition, 'lastTransitionTime'>): boolean {
  const found = status?.conditions?.find(({ type }) => type === wanted.type);
  return (
    found !== undefined &&
    found.status === wanted.status &&
    found.reason === wanted.reason &&
    found.message === wanted.message
  );
}
