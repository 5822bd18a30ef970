/**
 * What is sealed with a key of before, or lies open, is sealed with the first key: object by object, each where nobody
 * has written it meanwhile, since whoever has did so with the first key. It may be cut off at any moment and begun
 * again.
 */
import { giveWay } from '#os/turn.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { Server } from './context.ts';
import { sealedTogetherMax } from './limits.ts';
import { isSealed, storagePrefix } from './stored-objects.ts';

/** Answers how many objects were sealed anew; none is left that was not. */
export async function sealAgain(server: Server): Promise<number> {
  let sealed = 0;
  for (const kind of [...server.kinds.all()].filter(isSealed))
    for (;;) {
      const found = await sealKind(server, kind);
      if (found === 0) break;
      sealed += found;
    }
  return sealed;
}

async function sealKind({ store, objects }: Server, kind: KindRecord): Promise<number> {
  let found = 0;
  let after: string | undefined;
  for (;;) {
    const { values, more } = await store.list(storagePrefix(kind, ''), {
      limit: sealedTogetherMax,
      ...(after === undefined ? {} : { after }),
    });
    await Promise.all(
      values.map(async (stored) => {
        const value = objects.sealedAnew(kind, stored);
        if (value === undefined) return;
        found++;
        const { key, modRevision, lease } = stored;
        await store.txn(
          [{ key, modRevision }],
          [{ type: 'put', key, value, ...(lease === undefined ? {} : { lease }) }],
        );
      }),
    );
    after = values.at(-1)?.key;
    if (!more || after === undefined) return found;
    await giveWay();
  }
}
