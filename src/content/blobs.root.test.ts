/** The same on a disk of its own, which is full soon. */
import { realRandom } from '#os/clock.real.ts';
import { openBlobs } from './blobs.ts';
import { runBlobsSuite } from './blobs.suite.ts';
import { makeTestDisk } from './testing.ts';

runBlobsSuite({ open: (root, clock) => openBlobs(root, clock, realRandom), makeSmallDisk: makeTestDisk });
