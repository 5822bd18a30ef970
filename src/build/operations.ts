/**
 * What a build does to layers: a command carried out in them, or files put into them. Equal operations on equal layers
 * are the same work (`cache-keys.ts`).
 */
import type { CopyAction } from '#content/copy.ts';
import type { RunRequest } from './runner.ts';

export type ExecOp = {
  kind: 'exec';
  request: Omit<RunRequest, 'id' | 'imageId' | 'onOutput' | 'signal'>;
  /** Environment that must not change the key: proxies. */ hiddenEnv: string[];
  hiddenMounts: RunRequest['mounts'];
};

/** `key` stands for the content that the actions read; `prepare` is called only when the work is done. */
export type FileOp = {
  kind: 'file';
  key: unknown;
  prepare: () => Promise<{ actions: CopyAction[]; release: () => Promise<void> }>;
  /** Apply to nothing rather than to the input (`--link`). */ isLinked: boolean;
};

export type Operation = ExecOp | FileOp;
