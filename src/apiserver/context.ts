/** What every step of a request works with. */
import type { WebhookClientConfig } from '#api/admissionregistration.v1.ts';
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import type { KubeObject } from '#base/objects.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import type { Metrics } from '#observe/metrics.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { Store } from '#store/store.ts';
import type { FanOut } from './fan-out.ts';
import type { FlowControl } from './flow-control/flow-control.ts';
import type { Thread } from './flow-control/pace.ts';
import type { KindTable } from './kind-table.ts';
import type { KeyRing } from './keys.ts';
import type { RemoteApis, RemoteCaller } from './remote-apis.ts';
import type { Auditor, AuditRecord } from './audit/auditor.ts';
import type { Authenticators } from './authn/authenticators.ts';
import type { Authorizers } from './authz/authorizers.ts';
import type { ServerFlags } from './server-flags.ts';
import type { OpenAudit } from './audit/open-audit.ts';
import type { ListCache } from './list-cache.ts';
import type { LiveViews } from './live-views.ts';
import type { RequestMetrics } from './metrics.ts';
import type { Objects } from './stored-objects.ts';
import type { TokenClaims, TokenSigner } from './tokens.ts';
import type { RequestInfo } from './request-info.ts';

/** Usage of nodes and Pods, from the kubelets: what `metrics.k8s.io` serves. */
export interface UsageProvider {
  nodes(): Promise<NodeUsage[]>;
  pods(namespace: string | undefined): Promise<PodUsage[]>;
}
export interface NodeUsage {
  name: string;
  timestamp: string;
  windowSeconds: number;
  cpuNanoCores: number;
  memoryBytes: number;
  labels?: Record<string, string>;
}
export interface PodUsage {
  name: string;
  namespace: string;
  timestamp: string;
  windowSeconds: number;
  labels?: Record<string, string>;
  containers: { name: string; cpuNanoCores: number; memoryBytes: number }[];
}

/** A path that the platform serves beside the API (`platform-paths.ts`). */
export interface PlatformPath {
  /** Who is served; nobody else is, administrators included. */
  group: string;
  /** The answer to a body, which is a stranger's. */
  serve(body: unknown): Promise<object>;
}

export interface ApiServerOptions {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  keys: KeyRing;
  /** Cluster domain; `cluster.local` when absent. */
  domain?: string;
  serviceCidr?: string;
  nodePortRange?: readonly [number, number];
  /** Where clients inside reach the API server: what the `kubernetes` Service's endpoints name. */
  advertise?: { address: string; port: number };
  /** Version that `/version` reports. */
  gitVersion?: string;
  /** Usage of nodes and Pods. */
  usage?: UsageProvider;
  /** What this process measures; kept apart when absent. */
  metrics?: Metrics;
  /** The thread that serves, for what is begun in one turn of it to be bounded. */
  thread?: Thread;
  /** kube-apiserver's flags. */
  flags?: ServerFlags;
  /** What is recorded of requests; nothing when absent. */
  audit?: OpenAudit | undefined;
  anonymous?: boolean;
  /** What the platform serves beside the API. */
  platformPaths?: ReadonlyMap<string, PlatformPath>;
  /** How long history is kept for watches and paged lists; 0 turns the compaction loop off. */
  historyKeepMs?: number;
  /** Gives memory back to the system; called when a burst of writes is over and its history is forgotten. */
  releaseMemory?(): Promise<void>;
  /** Whether `metadata.managedFields` is kept; a simulation may do without. */
  trackFields?: boolean;
  /** Whether the expressions of policies are checked (upstream's controllers do it, not its API server). */
  checksPolicies?: boolean;
  /** The directory of a package that ships field descriptions, for `kubectl explain`. */
  descriptionsFrom?: string;
}

/** Sends a body to a webhook; answers what it answered, which is a stranger's. */
export type WebhookCaller = (clientConfig: WebhookClientConfig, body: object, timeoutMs: number) => Promise<unknown>;

/** OpenAPI documents of the kinds that are served, of one generation of them. */
export interface OpenApiDocuments {
  generation: number;
  v3: Map<string, { body: Buffer; hash: string }>;
  v2?: { json: Buffer; protobuf: Buffer; hash: string };
}

export interface Server {
  options: ApiServerOptions;
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  kinds: KindTable;
  objects: Objects;
  /** The whole request chain, for handlers that call other handlers. */
  handle(request: ApiRequest): Promise<ApiResponse>;
  fanOut: FanOut;
  /** Lists that were asked for lately. */
  lists: ListCache;
  live: LiveViews;
  metrics: Metrics;
  tokens: TokenSigner;
  /** Claims of tokens whose signature was checked. */
  verifiedTokens: Map<string, TokenClaims>;
  /** Made when somebody asks for them. */
  openApi?: OpenApiDocuments;
  /** The lease that Events of this minute share. */
  eventLease?: { minute: number; lease: Promise<number> };
  requests: RequestMetrics;
  audit: Auditor | undefined;
  /** Told of each write that was stored, for bounds that cannot wait for a timer. */
  onWritten?: () => void;
  /** Of the flags; none where there are none. */
  authenticators: Authenticators | undefined;
  authorizers: Authorizers | undefined;
  /** Set by a transport that can reach webhooks. */
  callWebhook?: WebhookCaller;
  /** What aggregated API servers have; set by a transport that can reach them: how they are asked. */
  remoteApis: RemoteApis;
  flowControl: FlowControl;
  callRemote?: RemoteCaller;
}

/** `T`: what the objects of the request's kind are. */
export interface RequestContext<T extends KubeObject = KubeObject> {
  server: Server;
  request: ApiRequest;
  info: RequestInfo;
  user: UserInfo;
  /** Set for resource requests of a served kind. */
  kind: KindRecord<T>;
  /** What was asked for, where `kind` is another version of it (`admission/equivalents.ts`). */
  requested?: KindRecord;
  warnings: string[];
  /** Where the request is audited. */
  audit?: AuditRecord;
  /** Of a watch: what is there has been handed over, and it only waits from now on. */
  onBegun?: () => void;
  /** Between two pieces of long work: others first (`Admission.pause`). */
  pause?: () => Promise<void> | undefined;
  /** The server writes what it needs itself: neither policies nor webhooks may keep it from starting. */
  isOwn?: true;
}
