/**
 * How the demo speaks to the platform: through the real docker and kubectl where they are installed, and through
 * Tiphys' own client where not. Looking at objects always goes through our own client; everything that changes
 * something goes through the driver.
 */

/** What `docker inspect` says of a container. */
export interface Inspected {
  State: { Running: boolean; ExitCode: number; Pid: number; StartedAt: string };
  RestartCount: number;
  NetworkSettings: { Ports: Record<string, { HostPort: string }[] | null> };
}

export interface DockerDriver {
  readonly name: string;
  build(directory: string, tags: string[], buildArguments: Record<string, string>): Promise<void>;
  push(tag: string): Promise<void>;
  /** Forgets the local name, then pulls it. */
  pullAgain(tag: string): Promise<void>;
  /** `docker run -d`; resolves with the id. */
  run(name: string, image: string, command: string[], options: { publish?: string; restart?: string }): Promise<string>;
  logs(name: string): Promise<string>;
  inspect(name: string): Promise<Inspected>;
  /** Kills a Pod's container behind Kubernetes' back, by its process. */
  removeForce(names: string[]): Promise<void>;
}

export interface KubeDriver {
  readonly name: string;
  apply(files: string[]): Promise<void>;
  setImage(namespace: string, deployment: string, container: string, image: string): Promise<void>;
  rolloutStatus(namespace: string, kindAndName: string, timeoutSeconds: number): Promise<void>;
  rolloutUndo(namespace: string, deployment: string): Promise<void>;
  scale(namespace: string, deployment: string, replicas: number): Promise<void>;
  deletePod(namespace: string, name: string): Promise<void>;
  /** Standard output of a command in a Pod. */
  exec(namespace: string, pod: string, command: string[]): Promise<string>;
}
