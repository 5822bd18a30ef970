export * from './src/sim/testing.ts';
