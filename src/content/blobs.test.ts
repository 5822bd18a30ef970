import { openBlobs } from './blobs.ts';
import { runBlobsSuite } from './blobs.suite.ts';
import { realRandom } from '#os/clock.real.ts';

runBlobsSuite({ open: (root, clock) => openBlobs(root, clock, realRandom) });
