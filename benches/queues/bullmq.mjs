// BullMQ carrying out the tasks of `cargo xtask bench queues`: URL TASKS WORKERS [PICKUPS]; what it saw is a line of JSON.
import { Queue, Worker } from 'bullmq';

const [url, tasks, workers, pickups] = process.argv.slice(2);
const count = Number(tasks);
const { hostname: host, port, pathname } = new URL(url);
const connection = { host, port: Number(port), db: Number(pathname.slice(1) || 0), maxRetriesPerRequest: null };
const queue = new Queue('bench', { connection });
const data = { text: 'x'.repeat(256) };
// Forgotten when done, as plba does.
const opts = { removeOnComplete: true, attempts: 20, backoff: { type: 'exponential', delay: 1000 } };
const now = () => Number(process.hrtime.bigint()) / 1e3;
const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function start(handler, concurrency) {
  const started = [];
  for (let number = 0; number < Number(workers); number += 1) {
    started.push(new Worker('bench', handler, { connection, concurrency }));
  }
  return Promise.all(started.map((worker) => worker.waitUntilReady()));
}

function say(seen) {
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
}

async function pace() {
  await queue.waitUntilReady();
  let began = now();
  for (let first = 0; first < count; first += 1000) {
    const size = Math.min(1000, count - first);
    await queue.addBulk(Array.from({ length: size }, () => ({ name: 'bench', data, opts })));
  }
  const enqueue = count / ((now() - began) / 1e6);
  let done = 0;
  began = now();
  await new Promise((resolve) => {
    start(async () => {
      done += 1;
      if (done === count) resolve();
    }, 100);
  });
  say({ enqueue, process: count / ((now() - began) / 1e6) });
}

async function latency() {
  let told;
  await start(async () => told(now()), 1);
  const pickups_us = [];
  for (let number = 0; number < Number(pickups) + 5; number += 1) {
    await rest(4);
    const started = new Promise((resolve) => { told = resolve; });
    const began = now();
    await queue.add('bench', data, opts);
    const span = (await started) - began;
    if (number >= 5) pickups_us.push(span);
  }
  say({ pickups_us });
}

await (pickups ? latency() : pace());
