// `import { createCluster } from 'tiphys/testing'`: the source in a checkout, the packed code in an installed package.
import { existsSync } from 'node:fs';

const source = new URL('./src/sim/testing.ts', import.meta.url);
export const { Cluster, createCluster, durationMs, kindOf, kinds, parseManifest, runLeaderElection } = await import(existsSync(source) ? source.href : './dist/sim/testing.js');
