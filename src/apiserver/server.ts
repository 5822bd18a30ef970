/**
 * The API server as a function from requests to answers. It owns no sockets (`http.ts` does) and no timers but those of
 * the clock it is given.
 * `createApiServer` is quick: kinds are records, their structure is read at first use.
 */
import type { ApiHandler } from '#base/api-request.ts';
import { builtInKinds } from '#schema/kinds.ts';
import { bootstrap, keepOwnObjects } from './bootstrap.ts';
import { runAggregation } from './aggregation.ts';
import { RemoteApis } from './remote-apis.ts';
import { runChain } from './chain.ts';
import { runCompaction } from './compaction.ts';
import type { ApiServerOptions, Server } from './context.ts';
import { runCustomResources } from './crd.ts';
import { FanOut } from './fan-out.ts';
import { FlowControl } from './flow-control/flow-control.ts';
import { runFlowControl } from './flow-control/run-flow-control.ts';
import type { EncryptionKey } from './keys.ts';
import { sealAgain } from './seal-again.ts';
import { KindTable } from './kind-table.ts';
import { ListCache } from './list-cache.ts';
import { LiveViews } from './live-views.ts';
import { ServerLease } from './server-leases.ts';
import { Objects } from './stored-objects.ts';
import { runPolicyStatus } from './policy-status.ts';
import { Metrics } from '#observe/metrics.ts';
import { issuerOf } from './authn/authenticate.ts';
import { Authenticators } from './authn/authenticators.ts';
import { Authorizers, namesAuthorizers } from './authz/authorizers.ts';
import { Auditor } from './audit/auditor.ts';
import { createRequestMetrics } from './metrics.ts';
import { TokenSigner } from './tokens.ts';

export interface ApiServer extends AsyncDisposable {
  handle: ApiHandler;
  /** For the transport. */
  server: Server;
  /**
   * The first key seals from now on, and what others have sealed is sealed with it before this resolves: how many.
   */
  sealWith(keys: readonly EncryptionKey[]): Promise<number>;
}

export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { store, clock, random, log, metrics = new Metrics() } = options;
  const objects = new Objects(options.keys.encryption, random);
  const kinds = new KindTable(builtInKinds);
  const { flags } = options;
  const server: Server = {
    options,
    store,
    clock,
    random,
    log,
    kinds,
    objects,
    handle: (request) => runChain(server, request),
    fanOut: new FanOut(clock),
    lists: new ListCache(),
    live: new LiveViews({ store, objects, clock, log: log.child('live') }),
    tokens: new TokenSigner(options.keys),
    verifiedTokens: new Map(),
    metrics,
    requests: createRequestMetrics(metrics, store),
    audit: options.audit === undefined ? undefined : new Auditor({ ...options.audit, clock, random, metrics }),
    authenticators: undefined,
    authorizers:
      flags === undefined || !namesAuthorizers(flags)
        ? undefined
        : new Authorizers(flags, { clock, log: log.child('authorization') }),
    remoteApis: new RemoteApis(),
    flowControl: new FlowControl({ clock, metrics, thread: options.thread }),
  };
  if (flags !== undefined)
    server.authenticators = new Authenticators({
      flags,
      ownIssuer: issuerOf(server),
      clock,
      log: log.child('authentication'),
    });
  const lease = new ServerLease(server);
  await lease.start();
  const [stopFlowControl] = await Promise.all([runFlowControl(server), bootstrap(server)]);
  const stopKeeping = keepOwnObjects(server);
  const stopCompaction = runCompaction(server);
  const stopCustom = await runCustomResources(server);
  const stopPolicyStatus = options.checksPolicies === false ? undefined : runPolicyStatus(server);
  const stopAggregation = runAggregation(server);
  return {
    handle: server.handle,
    server,
    sealWith: (keys) => {
      objects.setKeys(keys);
      return sealAgain(server);
    },
    async [Symbol.asyncDispose]() {
      await lease.stop();
      stopFlowControl();
      stopKeeping();
      stopCompaction();
      stopPolicyStatus?.();
      stopAggregation();
      stopCustom();
      server.live.close();
      server.authenticators?.[Symbol.dispose]();
      server.authorizers?.[Symbol.dispose]();
      for (const backend of options.audit?.backends ?? []) await backend[Symbol.asyncDispose]();
    },
  };
}
