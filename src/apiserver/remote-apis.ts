/** What is known of aggregated API servers, and how they are asked. */
import type { APIService } from '#api/apiregistration.v1.ts';
import type { APIResourceList } from '#api/meta.v1.ts';

/** Where an aggregated server answers, and whom it must be. */
export interface RemoteTarget {
  host: string;
  port: number;
  servername: string;
  /** Authority in PEM; the system's when absent. */
  ca?: string;
  insecure: boolean;
}

/** What was asked of an aggregated server, and came back. */
export interface RemoteAnswer {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array;
}
export interface RemoteRequest {
  method: string;
  path: string;
  headers: Record<string, string | string[]>;
  body?: Uint8Array;
  timeoutMs: number;
}
export type RemoteCaller = (target: RemoteTarget, request: RemoteRequest) => Promise<RemoteAnswer>;

/** What is known of the group versions that others serve. */
export class RemoteApis {
  readonly #resources = new Map<string, APIResourceList>();

  /** The resources of `GROUP/VERSION` as it last told them. */
  resourcesOf(groupVersion: string): APIResourceList | undefined {
    return this.#resources.get(groupVersion);
  }
  note(groupVersion: string, list: APIResourceList): void {
    this.#resources.set(groupVersion, list);
  }
  /** Keeps what is told of these. */
  retain(groupVersions: ReadonlySet<string>): void {
    for (const key of this.#resources.keys()) if (!groupVersions.has(key)) this.#resources.delete(key);
  }
}

export const groupVersionOf = ({ spec }: APIService): string => `${spec?.group ?? ''}/${spec?.version ?? ''}`;

/** Those that lead elsewhere, by `GROUP/VERSION`. */
export const remoteServices = (services: readonly APIService[]): ReadonlyMap<string, APIService> =>
  new Map(services.filter(({ spec }) => spec?.service).map((service) => [groupVersionOf(service), service]));

export const isAvailable = ({ status }: APIService): boolean =>
  status?.conditions?.some(({ type, status: holds }) => type === 'Available' && holds === 'True') === true;
