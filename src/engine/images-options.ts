/** What the images of an engine stand on, and what they tell while they work. */
import type { Platform } from '#base/platform.ts';
import { familiarName, parseReference } from '#base/reference.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecord, ImageRecords } from '#content/image-records.ts';
import type { ClientTls, HttpTransport } from '#content/remote.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import type { EngineEvent, Owner, RegistryCredential } from './engine.ts';

/** One line of docker's JSON progress. */
export type ProgressEvent = Record<string, unknown>;

export type Progress = (event: ProgressEvent) => void;

/** The registry of this process, seen by the engine: tagging in it copies nothing, because the blobs are the same. */
export interface LocalRegistry {
  /** True for `127.0.0.1:5000` and every other address that it answers on. */
  owns(domain: string): boolean;
  /** Digest of a tag, undefined when it is not there. */
  resolve(path: string, tagOrDigest: string): string | undefined;
  tags(path: string): string[];
  /** Media type under which a manifest was pushed. */
  mediaType(path: string, digest: string): string | undefined;
  /** True while a repository holds this manifest. */
  holds(manifestDigest: string): boolean;
  /**
   * Puts a manifest, whose blobs are in the shared store, into a repository; those that an index names come first.
   * Returns the blobs that were new to the repository.
   */
  publish(path: string, tag: string | undefined, manifest: { digest: string; mediaType: string }): Promise<Set<string>>;
}

export interface Peer {
  node: string;
  url: string;
  tls(): ClientTls;
  /** It was built or given there, and no registry has it. */
  isMade: boolean;
}

export interface ImagesOptions {
  content: Content;
  records: ImageRecords;
  clock: Clock;
  log: Logger;
  transport: HttpTransport;
  emit: (event: Omit<EngineEvent, 'timeNs'>) => void;
  /** URLs of mirrors of docker.io, tried before it. */
  mirrors?: string[];
  /** Hosts with ports, or CIDRs: without TLS, or with certificates that nobody verifies. */
  insecureRegistries?: string[];
  /** Layers at once of one pull and one push, and tries of a download; absent: the program's own. */
  transfers?: { downloads: number; uploads: number; attempts: number };
  localRegistry?: LocalRegistry;
  /**
   * The registry of the platform on another node, asked for any name before mirrors are. `domains`: names it owns
   * itself.
   */
  platformRegistry?: { url: string; tls(): ClientTls; domains: string[] };
  /** Other nodes that say that they have an image of this canonical name. */
  peers?: (canonicalName: string) => Peer[];
  /** Makes a base image where no registry could be reached; undefined when it cannot. */
  makeBaseImage?: (familiar: string, progress: Progress) => Promise<ImageRecord | undefined>;
  /** Containers made from an image, by its id, as docker names them in messages. */
  containersOf?: (imageId: string) => { id: string; isRunning: boolean; owner: Owner }[];
}

/** Names, with their tags, that a repository has here. Both are canonical. */
export function namesOfRepository({ content }: ImagesOptions, repository: string): string[] {
  return [...content.records.entries('names')]
    .map(([name]) => name)
    .filter((name) => name.startsWith(`${repository}:`) && !name.slice(repository.length + 1).includes('/'));
}

export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12);
}

/** A canonical name as people write it. */
export function familiar(canonical: string): string {
  return familiarName(parseReference(canonical));
}

export function emitImage(images: ImagesOptions, action: string, id: string, attributes: Record<string, string>): void {
  images.emit({ type: 'image', action, id, attributes });
}

export interface PullOptions {
  credential?: RegistryCredential;
  onProgress?: Progress;
  signal?: AbortSignal;
  owner?: Owner;
  /** Other than an image: registries give rights to it by another name. */
  artifact?: 'plugin';
  /** Other than this machine's. */ platform?: Platform;
}
