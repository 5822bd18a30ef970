/**
 * Storage version migrations (Kubernetes, "Migrate Kubernetes Objects Using Storage Version Migration"): each object of
 * a resource that was there when the migration began is written again as it is, so that it is stored in the version,
 * and sealed with the key, that hold now.
 */
import type { Condition } from '#api/meta.v1.ts';
import type { StorageVersionMigration } from '#api/storagemigration.v1.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { apiVersionOf, type KindRef } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import { timestamp } from '#base/timestamp.ts';
import { discoverResources } from './discovery.ts';
import { migratedPageMax, migrationResourceMs, migrationRetryMs } from './limits.ts';
import { conditionOf } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, enqueueEach } from './runtime.ts';

type Migration = StorageVersionMigration;

export function startStorageMigrator(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const migrations = informers.informer(kinds.StorageVersionMigration);
  const queue = createQueue(context, 'storage-migrator', async (key) => {
    const migration = migrations.get(key);
    if (migration === undefined || isTrue(migration, 'Succeeded') || isTrue(migration, 'Failed')) return;
    const kind = await kindFor(context, migration);
    if (kind === undefined) {
      // Its definition may still come.
      const isYoung = Date.parse(migration.metadata.creationTimestamp) + migrationResourceMs > clock.now();
      if (isYoung) queue.addAfter(key, migrationRetryMs);
      else await end(context, migration, 'Failed', 'unable to obtain GVR from discovery');
      return;
    }
    if (!migration.status?.resourceVersion) {
      const { metadata } = await client.list(kind, { limit: 1 });
      const status = { ...migration.status, resourceVersion: metadata.resourceVersion ?? '' };
      // The change puts it on the queue again.
      await client.update(kinds.StorageVersionMigration, { ...migration, status }, { subresource: 'status' });
      return;
    }
    try {
      await migrate(context, kind, Number(migration.status.resourceVersion));
    } catch (error) {
      if (isReason(error, 'Timeout', 'ServerTimeout', 'TooManyRequests', 'ServiceUnavailable', 'InternalError'))
        throw error;
      await end(context, migration, 'Failed', `Migration encountered unhandled error: ${messageOf(error)}`);
      return;
    }
    await end(context, migration, 'Succeeded', 'Migration completed');
  });
  enqueueEach(migrations, queue);
  return { name: 'storage-migrator', queues: [queue] };
}

const isTrue = (migration: Migration, type: string): boolean => conditionOf(migration, type)?.status === 'True';

async function kindFor({ client }: ControllerContext, { spec }: Migration): Promise<KindRef | undefined> {
  const { group, resource } = spec.resource;
  const { resources } = await discoverResources(client);
  return resources.find(
    ({ kind, verbs }) =>
      kind.group === group && kind.resource === resource && verbs.includes('patch') && verbs.includes('list'),
  )?.kind;
}

/** Writes all objects again that were not written since `revision`. */
async function migrate({ client }: ControllerContext, kind: KindRef, revision: number): Promise<void> {
  let at = '';
  do {
    const page = await client.list(kind, { limit: migratedPageMax, ...(at === '' ? {} : { continue: at }) });
    for (const { metadata } of page.items) {
      const { name = '', namespace, uid, resourceVersion } = metadata;
      if (Number(resourceVersion) > revision) continue;
      const merge = { apiVersion: apiVersionOf(kind), kind: kind.kind, metadata: { uid, resourceVersion } };
      try {
        await client.patch(
          kind,
          { name, namespace },
          { merge },
          { fieldManager: 'storage-version-migrator-controller' },
        );
      } catch (error) {
        // Whoever wrote it meanwhile, or deleted it, has done what was to be done.
        if (!isReason(error, 'Conflict', 'NotFound')) throw error;
      }
    }
    at = page.metadata.continue ?? '';
  } while (at !== '');
}

async function end(
  { client, clock }: ControllerContext,
  migration: Migration,
  type: 'Succeeded' | 'Failed',
  message: string,
): Promise<void> {
  const lastTransitionTime = timestamp(clock.now());
  const ended: Condition[] = [
    {
      type: 'Running',
      status: type === 'Succeeded' ? 'True' : 'False',
      reason: 'StorageVersionMigrationInProgress',
      message: '',
      lastTransitionTime,
    },
    { type, status: 'True', reason: `StorageVersionMigration${type}`, message, lastTransitionTime },
  ];
  const others = (migration.status?.conditions ?? []).filter((each) => !ended.some((own) => own.type === each.type));
  const status = { ...migration.status, conditions: [...others, ...ended] };
  await client.update(kinds.StorageVersionMigration, { ...migration, status }, { subresource: 'status' });
}
