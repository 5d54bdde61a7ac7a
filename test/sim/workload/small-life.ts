/**
 * The whole life of a small array, with one member that may do anything: create, first resync,
 * writes, degraded, replaced, rebuilt under load, checked, stopped, started, assembled anew.
 *
 * Whatever the bad drive does, the array must never fail, no request may be refused, and all that
 * was written reads back. A command may be refused because of the bad drive; then the script does
 * what a user would: it tries again, and then takes another drive.
 */
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { ENOSPC } from "../../../src/base/errno.ts";
import { SECTOR_BYTES } from "../../../src/base/units.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { SimDevice } from "../world/sim-device.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8192;
const STRIPES = 4;
const DRIVE_BYTES = 3 * 1024 * 1024;
const LATENCY = { minMs: 0.05, tailMs: 0 };
const IDLE_LIMIT_MS = 900_000;

/** Which drive is bad: a member by its place, or the replacement of the first member. */
export type Victim = "a" | "b" | "c" | "replacement";
export const VICTIMS: readonly Victim[] = ["a", "b", "c", "replacement"];

export interface LifeEnd {
  /** Requests that reached the bad drive. */
  readonly requests: number;
  readonly turns: number;
}

/** Lives it; `harm` is called once, with the bad drive, before anything is submitted to it. */
export function liveSmallLife(
  victim: Victim,
  harm: (device: SimDevice) => void,
  policy: ConsistencyPolicy = "resync",
  { mayRefuse = false }: { mayRefuse?: boolean } = {},
): LifeEnd {
  const life = new SmallLife(victim, harm, policy);
  life.mayRefuse = mayRefuse;
  return life.live();
}

class SmallLife {
  /** A write may be answered ENOSPC. */
  mayRefuse = false;
  private readonly policy: ConsistencyPolicy;
  private readonly victim: Victim;
  private readonly harm: (device: SimDevice) => void;
  private readonly world = new SimWorld({ seed: 1, latency: LATENCY });
  private oracle = new SectorOracle({ seed: 1, sectorCount: 1 });
  private bad: SimDevice | null = null;
  private submitted = 0;
  private drives: string[] = [];
  private nextDrive = 0;

  constructor(victim: Victim, harm: (device: SimDevice) => void, policy: ConsistencyPolicy) {
    this.policy = policy;
    this.victim = victim;
    this.harm = harm;
  }

  live(): LifeEnd {
    this.create();
    this.writeAll();
    this.idle();
    this.writeSome(1);
    this.readAll();
    this.degrade();
    this.writeSome(2);
    this.readAll();
    this.replace();
    this.writeSome(3);
    this.recover();
    this.readAll();
    this.scrub();
    this.writeSome(4);
    this.stopAndStart();
    this.readAll();
    this.writeSome(5);
    this.assembleAnew();
    this.readAll();
    this.notFailed();
    return { requests: this.submitted, turns: this.world.simulation.turnCount };
  }

  // Phases -----------------------------------------------------------------------------------

  private create(): void {
    const drives = ["a", "b", "c"].map((name) => this.take(name, this.victim === name));
    let created = this.tryCreate(drives);
    if (!created.ok) created = this.tryCreate(drives);
    if (!created.ok) {
      const others = drives.filter((name) => name !== this.bad?.name);
      this.drives = others;
      created = this.tryCreate([...others, this.take("other", false)]);
    }
    if (!created.ok) this.fail(`create: ${created.error.detail}`);
    const sectorCount = created.value.sizeBytes / SECTOR_BYTES;
    this.oracle = new SectorOracle({ seed: 1, sectorCount });
  }

  private tryCreate(drives: readonly string[]) {
    return this.world.call<"create-array">({
      kind: "create-array",
      name: ARRAY_NAME,
      drives,
      spares: [],
      chunkBytes: CHUNK_BYTES,
      memberSizeBytes: STRIPES * CHUNK_BYTES,
      consistencyPolicy: this.policy,
      assumeClean: false,
      force: true,
    });
  }

  /** The bad member is failed by hand, if it did not fail by itself; else the first one. */
  private degrade(): void {
    const name = this.victim === "replacement" ? "a" : this.victim;
    this.world.call({ kind: "fail-member", array: ARRAY_NAME, drive: name });
    this.notFailed();
  }

  private replace(): void {
    const gone = this.world.status().members.find(({ state }) => state !== "in-sync")?.drive;
    if (gone !== undefined && gone !== null) {
      this.world.call({ kind: "remove-member", array: ARRAY_NAME, drive: gone });
      this.world.call({ kind: "detach-drive", name: gone, force: true });
      this.drives = this.drives.filter((name) => name !== gone);
    }
    this.add(this.take("new", this.victim === "replacement"));
  }

  private add(drive: string): void {
    const add = { kind: "add-member", array: ARRAY_NAME, drive, force: true } as const;
    const added = this.world.call<"add-member">(add);
    if (!added.ok) this.world.call(add);
  }

  /** Waits for the rebuild, and takes another drive where the first does not make it. */
  private recover(): void {
    for (let tries = 0; tries < 4; tries += 1) {
      this.idle();
      if (this.world.status().degraded === 0) return;
      const bad = this.bad?.name;
      if (bad !== undefined && this.drives.includes(bad)) {
        this.world.call({ kind: "remove-member", array: ARRAY_NAME, drive: bad });
        this.drives = this.drives.filter((name) => name !== bad);
      }
      this.add(this.take("another", false));
    }
    this.fail("it does not become whole with good drives");
  }

  private scrub(): void {
    const check = {
      kind: "start-scrub",
      array: ARRAY_NAME,
      mode: "check",
      limitBytesPerSecond: null,
      restart: true,
    } as const;
    let started = this.world.call<"start-scrub">(check);
    if (!started.ok) {
      // A check needs all members, and the bad one may have failed just now.
      this.recover();
      started = this.world.call<"start-scrub">(check);
    }
    if (!started.ok) this.fail(`check: ${started.error.detail}`);
    const job = this.world.waitJob(started.value.id, IDLE_LIMIT_MS);
    const found = Number(job.result["mismatchBytes"] ?? 0);
    if (found > 0) this.fail(`the check finds ${found} bytes that do not match`);
    this.notFailed();
  }

  private stopAndStart(): void {
    const stopped = this.world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    if (!stopped.ok) this.fail(`stop: ${stopped.error.detail}`);
    this.start();
  }

  /** All drives are taken away and come again, as after a reboot that was in order. */
  private assembleAnew(): void {
    this.world.call({ kind: "stop-array", array: ARRAY_NAME });
    for (const name of this.drives) this.world.call({ kind: "detach-drive", name, force: true });
    for (const name of this.drives) {
      const attached = this.world.attach(name);
      if (attached.ok || name !== this.bad?.name) continue;
      this.world.attach(name);
    }
    this.start();
  }

  private start(): void {
    if (this.world.status().state === "inactive") {
      const started = this.world.startArray();
      if (!started.ok) this.fail(`start: ${started.error.detail}`);
    }
    this.notFailed();
  }

  // Load -------------------------------------------------------------------------------------

  private writeAll(): void {
    const { sectorCount } = this.oracle;
    this.together([
      this.write(0, sectorCount / 2, false),
      this.write(sectorCount / 2, sectorCount / 2, false),
    ]);
    this.flush();
  }

  /** Some of each kind: a row, a part of a row, over a chunk's end, a stripe and more, FUA. */
  private writeSome(round: number): void {
    const chunk = CHUNK_BYTES / SECTOR_BYTES;
    this.together([
      this.write(round, 3, true),
      this.write(chunk * 2 - 5, 11, false),
      this.write(chunk * 4 + 8, 8, false),
    ]);
    this.together([this.write(chunk * 2, chunk * 3, false), this.read(chunk, chunk * 4)]);
    this.flush();
  }

  private readAll(): void {
    const { sectorCount } = this.oracle;
    this.together([
      this.read(0, sectorCount / 2 + 3),
      this.read(sectorCount / 2 - 5, sectorCount / 2 + 5),
    ]);
  }

  private get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  private async write(lba: number, sectors: number, fua: boolean): Promise<void> {
    const status = await this.client.write({ lba, sectors }, { fua });
    // No room is nobody's fault: what was refused is old or new, and the next write may succeed.
    const isRefused = status === ENOSPC && this.mayRefuse;
    if (status !== 0 && !isRefused) {
      this.fail(`a write of ${sectors} at ${lba} is answered ${status}`);
    }
  }

  private async read(lba: number, sectors: number): Promise<void> {
    const found = await this.client.read({ lba, sectors });
    if (typeof found !== "number") this.fail(found.message);
    else if (found !== 0) this.fail(`a read of ${sectors} at ${lba} is answered ${found}`);
  }

  private flush(): void {
    const status = this.world.run(this.client.flush());
    if (status !== 0) this.fail(`a flush is answered ${status}`);
    this.notFailed();
  }

  private together(work: readonly Promise<void>[]): void {
    this.world.run(Promise.all(work), IDLE_LIMIT_MS);
  }

  // Parts ------------------------------------------------------------------------------------

  private idle(): void {
    this.world.settle({ limitMs: IDLE_LIMIT_MS });
    this.notFailed();
  }

  /** Plugs in a drive and attaches it; a bad one may not answer, and is left out then. */
  private take(name: string, isBad: boolean): string {
    const unique = this.world.devices.has(name) ? `${name}${this.nextDrive}` : name;
    this.nextDrive += 1;
    const device = this.world.plug({
      name: unique,
      sizeBytes: DRIVE_BYTES,
      logicalBlockBytes: 512,
      sectorBytes: 512,
      pages: new Map(),
      latent: new Map(),
    });
    if (isBad) this.watch(device);
    let attached = this.world.attach(unique);
    if (!attached.ok && isBad) attached = this.world.attach(unique);
    if (!attached.ok && !isBad) this.fail(`attach: ${attached.error.detail}`);
    if (!attached.ok) return this.take(`${name}2`, false);
    this.drives.push(unique);
    return unique;
  }

  private watch(device: SimDevice): void {
    this.bad = device;
    this.harm(device);
    const submit = device.submit.bind(device);
    device.submit = (request) => {
      this.submitted += 1;
      submit(request);
    };
  }

  private notFailed(): void {
    const { state, reason } = this.world.status();
    if (state === "failed" || state === "read-only") this.fail(`it is ${state}: ${reason}`);
  }

  private fail(message: string): never {
    const told = this.world.events.map(({ message: text }) => `  ${text}`);
    throw new Error(`${message}\n${told.join("\n")}`);
  }
}
