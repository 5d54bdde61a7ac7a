/**
 * The load generator of the benchmarks: the reactor, the arrays, the engine and the kernels as they
 * are in the product, with the load submitted from the same thread.
 *
 * It takes commands from stdin (generator-protocol.ts). The reactor turns only while a command is
 * carried out, and every command ends with nothing under way.
 */
import { heapStats } from "bun:jsc";
import { closeSync, constants, openSync } from "node:fs";
import type { ArrayCommandKind } from "../../src/array/commands/command.ts";
import { ArrayService } from "../../src/array/commands/service.ts";
import type { ArrayFront } from "../../src/array/front.ts";
import type { CommandMap, CommandOf, JobResult, OpenDrive } from "../../src/array/protocol.ts";
import type { ReactorContext } from "../../src/array/reactor-context.ts";
import { assert } from "../../src/base/assert.ts";
import { silentLog } from "../../src/base/log.ts";
import { createMemory } from "../../src/base/memory.ts";
import { MIB, roundDown } from "../../src/base/units.ts";
import { openEventFd } from "../../src/reactor/linux-mailbox.ts";
import { createLinuxReactor, type LinuxReactor } from "../../src/wiring/linux-context.ts";
import { deviceBytes } from "./array-size.ts";
import { answerCommands, type Handlers } from "./generator-main.ts";
import type { GeneratorCommands, Limits, RequestOf, ValueOf } from "./generator-protocol.ts";
import { Latencies } from "./latencies.ts";
import { ArrayLoad, type LoadResult, type Workload } from "./load.ts";
import { moveRaw } from "./member-load.ts";
import { slowDown } from "./paced-device.ts";
import { readRaw, stampFile } from "./raw-load.ts";
import { stopwatch, useThreadTime } from "./stopwatch.ts";
import { TimedKernels } from "./timed-kernels.ts";

const ARRAY = "bench";
const WAIT_MS_MAX = 120_000;

/** The service and its drives. */
interface Core {
  readonly reactor: LinuxReactor;
  readonly service: ArrayService;
  readonly kernels: TimedKernels;
  /** The members. */
  drives: readonly OpenDrive[];
  outsider: OpenDrive | null;
}

/** The array, and the part of it that the load goes to. */
interface Target {
  readonly stripeBytes: number;
  readonly load: ArrayLoad;
}

let opened: Core | null = null;
let chosen: Target | null = null;
let raw: OpenDrive | null = null;

function core(): Core {
  assert(opened !== null, "an array is open");
  return opened;
}

function target(): Target {
  assert(chosen !== null, "an array is open");
  return chosen;
}

function openDrive(name: string, path: string, hasVolatileCache: boolean): OpenDrive {
  const fd = openSync(path, constants.O_RDWR | constants.O_DIRECT);
  return {
    name,
    path,
    fd,
    sizeBytes: deviceBytes(path),
    logicalBlockBytes: 512,
    isDirect: true,
    isReadOnly: false,
    isRotational: false,
    hasVolatileCache,
    readsZeros: true,
    signature: null,
  };
}

function createReactor(memoryMib: number): LinuxReactor {
  const built = createLinuxReactor({
    config: {
      memory: createMemory(memoryMib * MIB),
      poolBytes: memoryMib * MIB,
      wakeFd: openEventFd(),
      firstJobId: 1,
      allowFaultInjection: false,
      autoAssemble: true,
    },
    log: silentLog,
    post: () => {},
    onWake: () => {},
  });
  assert(built.ok, "the host has AIO");
  return built.value;
}

/** Turns until the promise settles. */
function pump<T>({ reactor }: LinuxReactor, promise: Promise<T>): T {
  let settled: { readonly value: T } | { readonly error: unknown } | null = null;
  promise.then(
    (value) => {
      settled = { value };
    },
    (error: unknown) => {
      settled = { error };
    },
  );
  turnUntil(reactor, () => settled !== null);
  // Assigned in the callbacks above, which the compiler does not follow.
  const outcome = settled as unknown as { readonly value: T } | { readonly error: unknown };
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
}

function turnUntil(reactor: LinuxReactor["reactor"], isDone: () => boolean): void {
  const endMs = stopwatch.nowMs() + WAIT_MS_MAX;
  // What was just started may not have queued anything yet: a turn that waits would wait in vain.
  reactor.turn(0);
  while (!isDone()) {
    assert(stopwatch.nowMs() < endMs, "the reactor gets there in time");
    reactor.turn(stopwatch.turnWaitMs);
  }
}

function must<K extends ArrayCommandKind>(command: CommandOf<K>): CommandMap[K]["value"] {
  const { reactor, service } = core();
  const result = pump(reactor, service.handle<K>(command));
  assert(result.ok, `${command.kind} succeeds: ${JSON.stringify(result)}`);
  return result.value;
}

function open(request: RequestOf<"open">): ValueOf<"open"> {
  if (request.takesThreadTime === true) useThreadTime();
  const reactor = createReactor(request.memoryMib);
  const kernels = new TimedKernels();
  if (request.pace !== undefined) slowDown(reactor, request.pace);
  const context: ReactorContext = request.timesKernels
    ? { ...reactor.context, kernels: kernels.around(reactor.context.kernels) }
    : reactor.context;
  const service = new ArrayService(context, { autoAssemble: true });
  const { hasVolatileCache } = request;
  const drives = request.members.map((path, index) =>
    openDrive(`drive${index}`, path, hasVolatileCache),
  );
  const { outsider: path } = request;
  const outsider = path === undefined ? null : openDrive("outsider", path, hasVolatileCache);
  opened = { reactor, service, kernels, drives, outsider };
  for (const drive of drives) must({ kind: "attach-drive", drive });
  if (outsider !== null) must({ kind: "attach-drive", drive: outsider });
  const { sizeBytes } = must<"create-array">({
    kind: "create-array",
    name: ARRAY,
    drives: drives.map(({ name }) => name),
    spares: [],
    chunkBytes: request.chunkBytes,
    consistencyPolicy: request.policy,
    assumeClean: true,
    force: false,
    ...(request.memberSizeBytes === null ? {} : { memberSizeBytes: request.memberSizeBytes }),
  });
  const stripeBytes = request.chunkBytes * (drives.length - 1);
  const windowBytes = roundDown(Math.min(request.windowBytes ?? sizeBytes, sizeBytes), stripeBytes);
  const load = new ArrayLoad({
    reactor: reactor.reactor,
    memory: context.memory,
    pool: context.payloadPool,
    front: frontOf(service),
    windowOffset: sizeBytes - windowBytes,
    windowBytes,
  });
  chosen = { stripeBytes, load };
  return { stripeBytes, sizeBytes };
}

function frontOf(service: ArrayService): ArrayFront {
  const front = service.frontOf(ARRAY);
  assert(front !== null, "the array runs");
  return front;
}

function limitsOf({ warmMs, measureMs }: Limits) {
  return { warmMs, measureMs, operations: Number.POSITIVE_INFINITY };
}

function run({ workload, limits }: { workload: Workload; limits: Limits }): LoadResult {
  return target().load.run(workload, limitsOf(limits));
}

function waitJob(id: number): JobResult {
  const { reactor, service } = core();
  const job = service.registry.jobs.get(id);
  assert(job !== undefined, "the job is known");
  turnUntil(reactor.reactor, () => job.state !== "running");
  assert(job.state === "done", `the job succeeds: ${JSON.stringify(job.status())}`);
  return job.status().result;
}

function memberBytes(): number {
  const { service } = core();
  return service.registry.byName(ARRAY)!.running!.core.geometry.memberSizeBytes;
}

function fail(): null {
  const drive = core().drives.at(-1)!.name;
  must({ kind: "fail-member", array: ARRAY, drive });
  must({ kind: "remove-member", array: ARRAY, drive });
  return null;
}

/** Only the time of the job counts, without that of failing and adding the member. */
function rebuild({ ms }: { ms: number }): LoadResult {
  const drive = core().drives.at(-1)!.name;
  let operations = 0;
  let spentMs = 0;
  while (operations === 0 || spentMs < ms) {
    const isDegraded = must<"get-array">({ kind: "get-array", array: ARRAY }).degraded > 0;
    if (!isDegraded) fail();
    const startMs = stopwatch.nowMs();
    const added = must<"add-member">({ kind: "add-member", array: ARRAY, drive, force: true });
    assert(added.role === "rebuild", "the member is rebuilt");
    waitJob(added.job.id);
    spentMs += stopwatch.nowMs() - startMs;
    operations += 1;
  }
  return { operations, bytes: operations * memberBytes(), seconds: spentMs / 1000 };
}

function replace({ ms }: { ms: number }): LoadResult {
  let operations = 0;
  let spentMs = 0;
  while (operations === 0 || spentMs < ms) {
    const { drives, outsider } = core();
    const member = drives[0]!;
    assert(outsider !== null, "a drive is there to copy to");
    const request = { array: ARRAY, drive: member.name, with: outsider.name, force: true };
    const startMs = stopwatch.nowMs();
    waitJob(must<"replace-member">({ kind: "replace-member", ...request }).id);
    spentMs += stopwatch.nowMs() - startMs;
    operations += 1;
    Object.assign(core(), { drives: [outsider, ...drives.slice(1)], outsider: member });
    must({ kind: "remove-member", array: ARRAY, drive: member.name });
  }
  return { operations, bytes: operations * memberBytes(), seconds: spentMs / 1000 };
}

function reshape(): LoadResult {
  const { outsider } = core();
  assert(outsider !== null, "a drive is there that becomes a member");
  const request = { array: ARRAY, drives: [outsider.name], force: true } as const;
  const startMs = stopwatch.nowMs();
  waitJob(must<"add-members">({ kind: "add-members", ...request, policyAfter: "resync" }).id);
  const seconds = (stopwatch.nowMs() - startMs) / 1000;
  return { operations: 1, bytes: memberBytes(), seconds };
}

function moveRawOf({ count, ms, ...move }: RequestOf<"move-raw">): LoadResult {
  const { drives, outsider, reactor, service } = core();
  const array = service.registry.byName(ARRAY)!.running!.core;
  const chosen = move.kind === "read" ? drives.slice(0, count) : [outsider!];
  // Where the members have their data; an outsider becomes one of them.
  const offset = array.members.dataOffset[0]!;
  const extents = chosen.map((drive) => ({ drive, offset, bytes: memberBytes() }));
  return moveRaw(reactor, extents, { ...move, ms });
}

function beside({ workload, limits, job: kind }: RequestOf<"beside">): ValueOf<"beside"> {
  const { service, drives } = core();
  const { jobs } = service.registry;
  const started: Promise<unknown> =
    kind === "scrub"
      ? service.handle<"start-scrub">({
          kind: "start-scrub",
          array: ARRAY,
          mode: "check",
          limitBytesPerSecond: null,
          restart: true,
        })
      : kind === "rebuild"
        ? service.handle<"add-member">({
            kind: "add-member",
            array: ARRAY,
            drive: drives.at(-1)!.name,
            force: true,
          })
        : Promise.resolve();
  const job = () => jobs.list().find(({ state }) => state === "running");
  let begun = { done: 0, ms: 0 };
  const latencies = new Latencies();
  const observer = {
    latencies,
    begin: () => {
      begun = { done: job()?.done ?? 0, ms: stopwatch.nowMs() };
    },
  };
  target().load.run(workload, limitsOf(limits), observer);
  const running = job();
  const seconds = (stopwatch.nowMs() - begun.ms) / 1000;
  assert((running !== undefined) === (kind !== null), "a job lasts longer than the load");
  const jobRate = running === undefined ? 0 : (running.done - begun.done) / seconds;
  pump(core().reactor, started);
  if (running !== undefined) waitJob(running.id);
  return { p50: latencies.percentile(0.5), p99: latencies.percentile(0.99), jobRate };
}

function scrub({ ms }: { ms: number }): ValueOf<"scrub"> {
  let operations = 0;
  let mismatchBytes = 0;
  const startMs = stopwatch.nowMs();
  let spentMs = 0;
  while (operations === 0 || spentMs < ms) {
    const job = must<"start-scrub">({
      kind: "start-scrub",
      array: ARRAY,
      mode: "check",
      limitBytesPerSecond: null,
      restart: true,
    });
    mismatchBytes += Number(waitJob(job.id)["mismatchBytes"]);
    operations += 1;
    spentMs = stopwatch.nowMs() - startMs;
  }
  const bytes = operations * memberBytes();
  return { operations, bytes, seconds: spentMs / 1000, mismatchBytes };
}

function heap({ workload, operations }: RequestOf<"heap">): ValueOf<"heap"> {
  const { load } = target();
  const limits = { warmMs: 0, measureMs: Number.POSITIVE_INFINITY };
  load.run(workload, { ...limits, operations: Math.ceil(operations / 10) });
  const before = heapBytes();
  const result = load.run(workload, { ...limits, operations });
  return { grownBytes: heapBytes() - before, operations: result.operations };
}

/** Nothing is ever taken back: the heap grows by what is allocated. */
function allocated({ workload, operations }: RequestOf<"allocated">): ValueOf<"allocated"> {
  const { load } = target();
  const limits = { warmMs: 0, measureMs: Number.POSITIVE_INFINITY };
  load.run(workload, { ...limits, operations });
  const before = heapStats().heapCapacity;
  const result = load.run(workload, { ...limits, operations });
  const allocatedBytes = heapStats().heapCapacity - before;
  return { allocatedBytes, operations: result.operations };
}

function heapBytes(): number {
  Bun.gc(true);
  return heapStats().heapSize;
}

/** Counts the calls that reach the kernel: completions in the ring are taken without one. */
function systemCalls(request: RequestOf<"system-calls">): ValueOf<"system-calls"> {
  const { aio, reactor } = core().reactor;
  const sockets = reactor.sockets;
  const real = {
    submit: aio.submit.bind(aio),
    getEvents: aio.getEvents.bind(aio),
    poll: sockets.poll.bind(sockets),
  };
  let calls = 0;
  aio.submit = (listAddress, count) => {
    calls += 1;
    return real.submit(listAddress, count);
  };
  aio.getEvents = (eventsAddress, max) => {
    const count = real.getEvents(eventsAddress, max);
    if (!aio.usesRing && (count > 0 || aio.source === "syscall")) calls += 1;
    return count;
  };
  sockets.poll = (timeoutMs, onReady) => {
    calls += 1;
    return real.poll(timeoutMs, onReady);
  };
  const result = run({ ...request, limits: { ...request.limits, warmMs: 0 } });
  Object.assign(aio, { submit: real.submit, getEvents: real.getEvents });
  Object.assign(sockets, { poll: real.poll });
  return { ...result, calls };
}

function kernelShare(request: RequestOf<"kernel-share">): ValueOf<"kernel-share"> {
  const { kernels } = core();
  run({ ...request, limits: { warmMs: request.limits.warmMs, measureMs: 0 } });
  const before = kernels.nanoseconds;
  const { seconds } = run({ ...request, limits: { ...request.limits, warmMs: 0 } });
  return { share: (kernels.nanoseconds - before) / 1e9 / seconds };
}

function assemble(): ValueOf<"assemble"> {
  const { drives, service } = core();
  const { load } = target();
  load.detach();
  must({ kind: "stop-array", array: ARRAY });
  for (const { name } of drives) must({ kind: "detach-drive", name, force: false });
  const startMs = stopwatch.nowMs();
  for (const drive of drives) must({ kind: "attach-drive", drive });
  const { state } = must<"get-array">({ kind: "get-array", array: ARRAY });
  const seconds = (stopwatch.nowMs() - startMs) / 1000;
  assert(state !== "inactive", "the array is assembled");
  load.reconnect(frontOf(service));
  return { seconds };
}

function checkpoint({ count }: { count: number }): ValueOf<"checkpoint"> {
  const { reactor, service } = core();
  const array = service.registry.byName(ARRAY)!.running!.core;
  const startMs = stopwatch.nowMs();
  for (let done = 0; done < count; done += 1) {
    assert(pump(reactor, array.engine.flush()), "the flush succeeds");
    assert(pump(reactor, array.record()), "the superblocks are written");
  }
  return { seconds: (stopwatch.nowMs() - startMs) / 1000 / count };
}

function stampRaw({ path, bytes }: RequestOf<"stamp-raw">): null {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  stampFile(fd, bytes);
  closeSync(fd);
  raw = openDrive("raw", path, true);
  return null;
}

const handlers: Handlers<GeneratorCommands> = {
  open,
  fill: () => {
    target().load.fill(target().stripeBytes);
    return null;
  },
  run,
  "stamp-raw": stampRaw,
  "read-raw": ({ depth, warmMs, ms }) => {
    assert(raw !== null, "a file is stamped");
    return readRaw(core().reactor, raw, { depth, warmMs, measureMs: ms });
  },
  verify: ({ rowCount }) => ({ rowCount: target().load.verify(rowCount) }),
  fail,
  rebuild,
  replace,
  reshape,
  "move-raw": moveRawOf,
  beside,
  scrub,
  heap,
  allocated,
  "system-calls": systemCalls,
  "kernel-share": kernelShare,
  assemble,
  checkpoint,
  quit: () => {
    if (opened !== null) must({ kind: "shutdown" });
    return null;
  },
};

await answerCommands<GeneratorCommands>(handlers);
