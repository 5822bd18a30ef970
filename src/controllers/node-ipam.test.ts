/** Which Pod range a node is given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { subnetOf } from '#base/ip.ts';
import { planPodRange } from './node-ipam.ts';

const options = { range: '10.244.0.0/16', reserved: 16 };

test('a node is given the first range that no other has, behind those of the first machine', () => {
  assert.equal(planPodRange(options, []), '10.244.16.0/24');
  const taken = ['10.244.0.0/24', '10.244.16.0/24', '10.244.17.0/24', '10.244.19.0/24'].map(subnetOf);
  assert.equal(planPodRange(options, taken), '10.244.18.0/24');
  assert.equal(planPodRange(options, [subnetOf('10.244.16.0/22')]), '10.244.20.0/24', 'also one of another size');
});

test('where all are taken there is none', () => {
  assert.equal(planPodRange({ range: '10.244.0.0/22', reserved: 2 }, ['10.244.2.0/23'].map(subnetOf)), undefined);
  assert.equal(planPodRange({ range: '10.244.0.0/22', reserved: 2 }, ['10.244.2.0/24'].map(subnetOf)), '10.244.3.0/24');
});
